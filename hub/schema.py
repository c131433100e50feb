"""How the REST surface describes itself in OpenAPI."""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tokens come as bearer header; the cookie is for browsers."""

    target_class = "hub.rest.TokenAuthentication"
    name = "token"

    def get_security_definition(self, _auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class Schema(AutoSchema):
    """Names operations by method and path, so that each has a name of its own."""

    def get_operation_id(self) -> str:
        """Return the name."""
        words = re.findall(r"[A-Za-z0-9]+", self.path.removeprefix("/api"))
        return "_".join([self.method.lower(), *words])
