"""Functions of sprig that are refused, because each call returns another value."""

from collections.abc import Callable
from typing import Any

from appsets.template.syntax import TemplateError

_UNSTEADY = (
    "now",
    "date",
    "dateInZone",
    "dateModify",
    "ago",
    "htmlDate",
    "randAlpha",
    "randAlphaNum",
    "randAscii",
    "randNumeric",
    "randInt",
    "randBytes",
    "shuffle",
    "uuidv4",
    "genPrivateKey",
    "genCA",
    "genSelfSignedCert",
    "genSignedCert",
    "derivePassword",
    "htpasswd",
    "bcrypt",
    "encryptAES",
)


def _unsteady(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise TemplateError(
            f"{name} returns another value at each call, so the application would change by itself"
        )

    return refuse


FUNCTIONS = {name: _unsteady(name) for name in _UNSTEADY}
