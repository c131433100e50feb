"""Decide what callers may do. All access to rows for users is decided here.

Policies come from documents (the setting `rbac`), roles stored as objects, project roles and
temporary grants. They are compiled together, and again as soon as one of them changes. The rules
and the built-in roles are in `hub.engine.rbac`, who holds a right is answered by
`hub.access.explain`, and each view names the right that it needs as `permission`.
"""

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone

from hub.access import noted_decisions
from hub.access.policy_names import Naming, naming, policy_subjects, record_of
from hub.access.policy_sources import (
    DOCUMENT,
    Known,
    Sources,
    grant_rule,
    names_of_roles,
    sources_from,
)
from hub.audit import trail
from hub.engine.cluster_scopes import Where, parse_scope
from hub.engine.errors import AccessDenied, Invalid, RuleError
from hub.engine.rbac import Decision, Enforcer, Problem, parse
from hub.engine.rbac_rules import Reach, Rule
from hub.models import (
    Account,
    Grant,
    ProjectPolicy,
    Role,
    access_changed,
    setting,
)

log = logging.getLogger(__name__)

SETTING = "rbac"


class Rights(NamedTuple):
    """The inputs of a decision: callers with the same rights get the same decisions."""

    subjects: tuple[str, ...]
    project: str
    """The only project that the rights apply to; empty for all projects."""
    enabled: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    That is an account by its session or token, a project's role by its token, or an anonymous
    caller.
    """

    name: str
    account: Account | None = None
    subjects: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    project: str = ""
    """The only project that the token of a project's role applies to."""
    token_id: str = ""
    session_id: str = ""
    method: str = ""
    issued_at: int = 0

    @property
    def is_anonymous(self) -> bool:
        """Whether the caller is not signed in."""
        return self.account is None and not self.project

    @property
    def rights(self) -> Rights:
        """The caller's rights, in the form that decisions use."""
        return Rights(self.subjects, self.project, self.account is None or self.account.enabled)

    def as_record(self) -> dict[str, Any]:
        """Return the caller as the audit trail records it."""
        account = self.account
        record = {
            "account": account.name if account else "",
            "issuer": account.issuer if account else "",
            "subject": account.subject if account else (self.subjects[0] if self.subjects else ""),
            "groups": list(self.groups),
            "token": self.token_id,
            "session": self.session_id,
            "method": self.method,
        }
        return {k: v for k, v in record.items() if v}


ANONYMOUS = Caller("anonymous")


@dataclass(frozen=True, slots=True)
class _State:
    version: str
    enforcer: Enforcer
    scopes: tuple[str, ...]
    local_names: frozenset[str]
    naming: Naming
    valid_until: datetime | None


_state: _State | None = None
# A request uses the policies of its beginning: one database query instead of ten.
_of_request: contextvars.ContextVar[list[_State] | None] = contextvars.ContextVar(
    "policies", default=None
)


def reload_policies() -> None:
    """Load the current policies for all further decisions of this request."""
    _of_request.set([])


def _current() -> _State:
    kept = _of_request.get()
    if kept:
        return kept[0]
    state = _newest()
    if kept is not None:
        kept.append(state)
    return state


# One thread at a time compiles and caches: after a change of access all threads need the result at
# once, and the first one compiles it for all.
_compiling = threading.Lock()
_known: Known = {}


def _newest() -> _State:
    kept = _if_newest(_state)
    if kept is not None:
        return kept
    with _compiling:
        return _if_newest(_state) or _compiled()


def _if_newest(state: _State | None) -> _State | None:
    version = setting("access_version", "")
    if state is None or not version or state.version != version:
        return None
    return state if state.valid_until is None or timezone.now() < state.valid_until else None


def _compiled() -> _State:
    global _state
    # The version first: a change during the other reads is then read again at the next decision.
    version = setting("access_version", "")
    sources, valid_until = _load(timezone.now())
    local = frozenset(Account.objects.filter(issuer="").values_list("name", flat=True))
    local |= names_of_roles(sources.roles)
    compiled = sources.enforcer(_known)
    _state = _State(version, compiled, sources.scopes, local, naming(), valid_until)
    return _state


def enforcer() -> Enforcer:
    """Return the compiled policies as they are now."""
    return _current().enforcer


def policies() -> tuple[str, datetime | None]:
    """Return a value that changes with the policies: on edits, and when a grant begins or ends."""
    state = _current()
    return state.version, state.valid_until


def _load(now: datetime) -> tuple[Sources, datetime | None]:
    grants = list(Grant.objects.filter(revoked_at=None, ends_at__gt=now))
    edges = [g.starts_at for g in grants if g.starts_at > now] + [g.ends_at for g in grants]
    rules, problems = list[Rule](), list[Problem]()
    for grant in grants:
        if grant.starts_at <= now:
            try:
                rules.append(grant_rule(grant_json(grant)))
            except RuleError as error:
                problems.append(Problem(f"grant {grant.pk}", f"it gives nothing: {error}"))
    found = sources_from(
        setting(SETTING) or {},
        [role_json(role) for role in Role.objects.order_by("name")],
        {p.project: p.roles for p in ProjectPolicy.objects.order_by("project")},
        rules,
    )
    return replace(found, problems=(*found.problems, *problems)), min(edges, default=None)


def broken_rules(project: str = "") -> list[Problem]:
    """Return the stored policies that cannot be used, of everything or of one project."""
    found = enforcer().policy.problems
    starts = (f"project {project},", f"project {project}:") if project else ("",)
    return [p for p in found if f"{p.origin}:".startswith(starts)]


def subjects_of(account: Account) -> tuple[str, ...]:
    """Return the subjects of an account in policies.

    Claims of a provider can never equal the name of a local account, a role or a project's role.
    """
    if account.is_local:
        return (account.name,)
    state = _current()
    return policy_subjects(record_of(account), state.scopes, state.local_names, state.naming)


def caller_of(account: Account, **how: Any) -> Caller:
    """Return an account as a caller."""
    groups = tuple(g for g in account.groups if isinstance(g, str))
    return Caller(account.shown_name, account, subjects_of(account), groups, **how)


def identity_of(caller: Caller) -> dict[str, Any]:
    """Return an identity from which `caller_by` can find the caller again, without the request."""
    if caller.account is not None:
        return {"account": caller.account.pk}
    return {"subject": caller.subjects[0], "project": caller.project} if caller.project else {}


def caller_by(identity: Mapping[str, Any] | None) -> Caller:
    """Return the caller of `identity_of` with its current rights, or the anonymous one."""
    found = identity or {}
    account = Account.objects.filter(pk=found["account"]).first() if "account" in found else None
    if account is not None:
        return caller_of(account)
    if "subject" in found:
        subject = str(found["subject"])
        return Caller(subject, None, (subject,), project=str(found["project"]))
    return ANONYMOUS


def decide(
    caller: Caller, resource: str, action: str, name: str, where: Where | None = None
) -> Decision:
    """Return whether a caller may do an action to an object, and why."""
    found = _decided(caller, resource, action, name, where)
    if found.allowed:
        place = [where.server, where.name, dict(where.labels)] if where else None
        noted_decisions.note(resource, action, name, place)
    return found


def _decided(
    caller: Caller, resource: str, action: str, name: str, where: Where | None
) -> Decision:
    rights = caller.rights
    own = resource == "accounts" and caller.account is not None and caller.account.is_local
    if (
        rights.enabled
        and own
        and caller.account
        and name == caller.account.name
        and action in ("get", "update")
    ):
        return Decision(allowed=True)
    return decide_by(rights, resource, action, name, where)


def decide_by(
    rights: Rights, resource: str, action: str, name: str, where: Where | None = None
) -> Decision:
    """Return whether some rights allow an action on an object.

    The rights of an account to itself are checked by `decide` only.
    """
    if not rights.enabled:
        return Decision(allowed=False)
    subjects = rights.subjects
    if rights.project and name != rights.project and not name.startswith(f"{rights.project}/"):
        subjects = ()
    return _current().enforcer.decide(subjects, resource, action, name, where)


def common(rights: Rights) -> Rights:
    """Return the rights without names that no policy mentions: many callers share the result."""
    return rights._replace(subjects=_current().enforcer.relevant(rights.subjects))


def bearing(rights: Rights) -> object:
    """Return the rules and roles that apply to some rights.

    It is equal before and after a change of policies that does not affect them.
    """
    return rights, _current().enforcer.bearing(rights.subjects)


def is_allowed(
    caller: Caller | None, resource: str, action: str, name: str, where: Where | None = None
) -> bool:
    """Return whether a caller may do an action to an object."""
    return caller is not None and decide(caller, resource, action, name, where).allowed


def require(
    caller: Caller,
    resource: str,
    action: str,
    name: str,
    project: str = "",
    where: Where | None = None,
) -> None:
    """Check that the caller may do an action to an object, and record a refusal.

    Raises: AccessDenied with Argo CD's text.
    """
    if is_allowed(caller, resource, action, name, where):
        return
    trail.record_refusal(
        caller.name, action, resource, name, project, cluster=where.name if where else ""
    )
    raise AccessDenied(denial(caller, resource, action, name), recorded=True)


def require_any(caller: Caller, resource: str, action: str, name: str) -> None:
    """Check that the caller may do the action to at least one object, and record a refusal.

    It is the first check of a request that changes something, as it needs neither body nor database
    rows.
    Raises: AccessDenied.
    """
    if not caller.rights.enabled or not _current().enforcer.touches(caller.subjects, resource):
        raise hide(caller, resource, action, name)


_finders: list[Callable[[str, str], Where | None]] = []


def find_where_by(finder: Callable[[str, str], Where | None]) -> None:
    """Register how an app finds the cluster of an object of its resources."""
    _finders.append(finder)


def where_of(resource: str, name: str) -> Where | None:
    """Return the cluster of an object, None when there is none or no such object."""
    return next((found for finder in _finders if (found := finder(resource, name))), None)


def hide(caller: Caller, resource: str, action: str, name: str, project: str = "") -> AccessDenied:
    """Return and record the refusal of an object, the same for an absent and a forbidden one."""
    trail.record_refusal(caller.name, action, resource, name, project)
    return AccessDenied("permission denied", recorded=True)


def denial(caller: Caller, resource: str, action: str, name: str) -> str:
    """Return Argo CD's sentence for a refusal."""
    subject = caller.subjects[0] if caller.subjects else caller.name
    text = f"permission denied: {resource}, {action}, {name}, sub: {subject}"
    if caller.issued_at:
        stamp = datetime.fromtimestamp(caller.issued_at, timezone.get_default_timezone())
        text += f", iat: {stamp.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return text


def reach(caller: Caller, resource: str, action: str) -> Reach:
    """Return the rules that select the objects a caller may act on.

    `projects.access.visibility` translates them to SQL.
    """
    state = _current()
    found = _confined(state.enforcer.reach(caller.subjects, resource, action), caller)
    if noted_decisions.is_watched():
        noted_decisions.note(resource, action, *noted_decisions.marks(found))
    return found


def _confined(found: Reach, caller: Caller) -> Reach:
    state = _current()
    if not caller.project:
        return found
    # The default role applies to everybody; all other rights of a project's token stay in its
    # project.
    default = state.enforcer.default_role
    everybody = set(state.enforcer.roles_of(default)) if default else set()

    def confined(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(
            r if r.subject in everybody else r._replace(project=caller.project)
            for r in rules
            if r.subject in everybody or r.project in ("", caller.project)
        )

    return Reach(confined(found.allow), confined(found.deny))


def stored_documents() -> dict[str, Any]:
    """Return the policy documents; an empty mapping when the stored value is invalid."""
    value = setting(SETTING)
    if not isinstance(value, dict):
        return {}
    return {n: v if n == "scopes" else str(v or "") for n, v in value.items()}


def check_documents(value: Any) -> list[str]:
    """Return a message for each invalid line; other lines still apply.

    Raises: Invalid when the value is not a set of documents.
    """
    if not isinstance(value, dict):
        raise Invalid(
            "rbac must be an object with policy.csv, policy.default, scopes, policy.matchMode"
        )
    for name, text in value.items():
        if name not in ("policy.default", "policy.matchMode", "scopes") and not DOCUMENT.match(
            name
        ):
            raise Invalid(
                f"rbac: {name!r} is not one of policy.csv, policy.NAME.csv, policy.default, "
                "policy.matchMode, scopes"
            )
        if name != "scopes" and not isinstance(text, str):
            raise Invalid(f"rbac[{name}] must be text")
    if value.get("policy.matchMode", "glob") not in ("glob", "regex", ""):
        raise Invalid("rbac[policy.matchMode] must be glob or regex")
    return [f"{problem.origin}: {problem.message}" for problem in _document_problems(value)]


def _document_problems(value: Mapping[str, Any]) -> list[Problem]:
    sources = sources_from(value, (), {}, ())
    return [
        problem
        for name, text in sources.documents.items()
        for problem in parse(text, name, sources.mode).problems
    ]


def check_patterns(value: Any) -> None:
    """Check that every pattern in the policy documents is valid.

    Raises: Invalid naming the document, the line and the field.
    """
    for problem in _document_problems(value):
        if problem.is_pattern:
            raise Invalid(f"rbac[{problem.origin}]: {problem.message}")


def set_project_roles(project: str, roles: list[dict[str, Any]] | None) -> None:
    """Store the roles of a project for access decisions; None for a deleted project."""
    row = ProjectPolicy.objects.filter(project=project).first()
    if (row.roles if row else None) == roles:
        return
    if roles is None:
        ProjectPolicy.objects.filter(project=project).delete()
    else:
        ProjectPolicy.objects.update_or_create(project=project, defaults={"roles": roles})
    access_changed("project", project, roles)


def role_json(role: Role) -> dict[str, Any]:
    """Return a role as an object."""
    return {
        "name": role.name,
        "description": role.description,
        "rules": role.rules,
        "members": role.members,
    }


def grant_json(grant: Grant) -> dict[str, Any]:
    """Return a grant as an object."""

    def stamp(at: datetime | None) -> str | None:
        return at.isoformat().replace("+00:00", "Z") if at else None

    return {
        "id": grant.pk,
        "subject": grant.subject,
        "resource": grant.resource,
        "action": grant.action,
        "object": grant.object,
        "clusters": grant.clusters,
        "startsAt": stamp(grant.starts_at),
        "endsAt": stamp(grant.ends_at),
        "reason": grant.reason,
        "ticket": grant.ticket,
        "grantedBy": grant.granted_by,
        "revokedAt": stamp(grant.revoked_at),
    }


def checked_rule(rule: Any, field: str) -> dict[str, str]:
    """Return a valid rule of a role that is stored as an object.

    Raises: Invalid naming the field.
    """
    if not isinstance(rule, dict):
        raise Invalid(f"{field} must be an object")
    unknown = set(rule) - {"resource", "action", "object", "effect", "clusters"}
    if unknown:
        raise Invalid(f"{field}: {min(unknown)!r} is not a field of a rule")
    result = {"effect": "allow", "clusters": "", **rule}
    for name in ("resource", "action", "object", "effect", "clusters"):
        if not isinstance(result.get(name), str) or (name != "clusters" and not result[name]):
            raise Invalid(f"{field}.{name} must be text")
        if any(c in result[name] for c in "\r\n"):
            raise Invalid(f"{field}.{name} must be one line")
    words = [result[n] for n in ("resource", "action", "object", "effect")]
    try:
        parse_scope(result["clusters"])
    except RuleError as error:
        raise Invalid(f"{field}.clusters: {error}") from error
    line = ", ".join('"' + w.replace('"', '""') + '"' for w in ["role", *words])
    broken = parse(f"p, {line}", field).problems
    if broken:
        raise Invalid(f"{field}: {broken[0].message}")
    return {k: str(v).strip() for k, v in result.items()}
