"""Who may do what. Every row that reaches a user passes here.

Until roles arrive, only accounts that administer the hub exist: `admin`.
"""

from hub.audit import record_refusal
from hub.engine.errors import AccessDenied
from hub.models import Account


def is_allowed(account: Account | None, resource: str, action: str, name: str) -> bool:
    """Return whether an account may do an action to an object."""
    del resource, action, name
    return account is not None and account.enabled and account.name == "admin"


def require(
    account: Account | None, resource: str, action: str, name: str, project: str = ""
) -> None:
    """Return if the account may, and record the refusal otherwise.

    Raises: AccessDenied with Argo CD's text.
    """
    if is_allowed(account, resource, action, name):
        return
    who = account.name if account else "anonymous"
    record_refusal(who, action, resource, name, project)
    raise AccessDenied(f"permission denied: {resource}, {action}, {name}, sub: {who}")
