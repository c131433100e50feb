"""Who may do what. Every row that reaches a user passes here.

Policies come from documents (the setting `rbac`), roles kept as objects, project roles and grants
for a time; together they are compiled once, and again as soon as one of them has changed.
"""

import contextvars
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from django.utils import timezone

from hub import audit, decisions
from hub.engine.errors import AccessDenied, Invalid, RuleError
from hub.engine.rbac import (
    Decision,
    Enforcer,
    Policy,
    Problem,
    Reach,
    Rule,
    as_expressions,
    builtin,
    parse,
    project_policy,
)
from hub.engine.scopes import Where, parse_scope
from hub.models import (
    Account,
    Grant,
    ProjectPolicy,
    Role,
    access_changed,
    setting,
)
from hub.naming import Naming, naming, policy_subjects, record_of

log = logging.getLogger(__name__)

SETTING = "rbac"
_DOCUMENT = re.compile(r"^policy\.([A-Za-z0-9_-]+\.)?csv\Z")


class Rights(NamedTuple):
    """All that decisions about objects know of a caller: who has the same rights gets the same answers."""

    subjects: tuple[str, ...]
    project: str
    """The only project that may be touched, any when empty."""
    enabled: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: an account by a session or token, a project's role by its token, or nobody known."""

    name: str
    account: Account | None = None
    subjects: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    project: str = ""
    """The only project that the token of a project's role may touch."""
    token_id: str = ""
    session_id: str = ""
    method: str = ""
    issued_at: int = 0

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody is signed in."""
        return self.account is None and not self.project

    @property
    def rights(self) -> Rights:
        """What decisions know of this caller."""
        return Rights(self.subjects, self.project, self.account is None or self.account.enabled)

    def as_record(self) -> dict[str, Any]:
        """Return who this is for the trail."""
        account = self.account
        record = {
            "account": account.name if account else "", "issuer": account.issuer if account else "",
            "subject": account.subject if account else (self.subjects[0] if self.subjects else ""),
            "groups": list(self.groups), "token": self.token_id, "session": self.session_id, "method": self.method,
        }  # fmt: skip
        return {k: v for k, v in record.items() if v}


ANONYMOUS = Caller("anonymous")


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that access decisions are made of, as it was at one moment."""

    documents: Mapping[str, str]
    default_role: str
    mode: str
    scopes: tuple[str, ...]
    roles: tuple[Mapping[str, Any], ...]
    projects: Mapping[str, tuple[Mapping[str, Any], ...]]
    grants: tuple[Rule, ...]
    problems: tuple[Problem, ...] = ()
    """What is stored and could not even be taken apart."""

    def enforcer(self) -> Enforcer:
        """Compile."""
        policy = self._as_globs(builtin())
        makers: list[tuple[str, Callable[[], Policy]]] = [
            (name, partial(parse, self.documents[name], name, self.mode)) for name in sorted(self.documents)
        ]  # fmt: skip
        makers += [
            (f"role {role.get('name')}", partial(lambda r: self._as_globs(role_policy(r)), role))
            for role in self.roles
        ]
        makers += [
            (f"project {project}", partial(project_policy, project, roles, self.mode))
            for project, roles in self.projects.items()
        ]
        for origin, make in makers:
            try:
                policy += make()
            except (RuleError, KeyError, TypeError, ValueError, AttributeError) as error:
                # One thing that cannot be read takes nobody else's rights away.
                log.warning("the policy of %s cannot be used: %s", origin, error)
                policy += Policy(problems=(Problem(origin, f"it cannot be read, write it again: {error}"),))  # fmt: skip
        problems = Policy(problems=self.problems)
        return Enforcer(
            policy + self._as_globs(Policy(self.grants)) + problems, self.mode, self.default_role
        )

    def _as_globs(self, policy: Policy) -> Policy:
        """Return rules that are globs whatever `policy.matchMode` is: the built-in, roles and grants."""
        if self.mode != "regex":
            return policy
        return replace(policy, rules=tuple(as_expressions(rule) for rule in policy.rules))


@dataclass(frozen=True, slots=True)
class _State:
    version: str
    enforcer: Enforcer
    scopes: tuple[str, ...]
    local_names: frozenset[str]
    naming: Naming
    valid_until: datetime | None


_state: _State | None = None
# Within one request the policies are those of its beginning: one question to the database, not ten.
_of_request: contextvars.ContextVar[list[_State] | None] = contextvars.ContextVar(
    "policies", default=None
)


def look_again() -> None:
    """Have the next decision, and those that follow in this request, made by the newest policies."""
    _of_request.set([])


def _current() -> _State:
    kept = _of_request.get()
    if kept:
        return kept[0]
    state = _newest()
    if kept is not None:
        kept.append(state)
    return state


def _newest() -> _State:
    global _state
    version = setting("access_version", "")
    now = timezone.now()
    state = _state
    if state and version and state.version == version and (state.valid_until is None or now < state.valid_until):  # fmt: skip
        return state
    sources, valid_until = _load(now)
    local = frozenset(Account.objects.filter(issuer="").values_list("name", flat=True))
    _state = _State(version, sources.enforcer(), sources.scopes, local, naming(), valid_until)
    return _state


def enforcer() -> Enforcer:
    """Return the compiled policies of this moment."""
    return _current().enforcer


def policies() -> tuple[str, datetime | None]:
    """Return what changes when the policies do: by a person, or because a grant begins or ends."""
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
    """Return what is stored among the policies and cannot be used, of everything or of one project."""
    found = enforcer().policy.problems
    starts = (f"project {project},", f"project {project}:") if project else ("",)
    return [p for p in found if f"{p.origin}:".startswith(starts)]


def sources_from(
    documents: Any, roles: Iterable[Mapping[str, Any]], projects: Mapping[str, Any], grants: Iterable[Rule]
) -> Sources:  # fmt: skip
    """Return the inputs of decisions from what is stored."""
    problems = list[Problem]()
    if not isinstance(documents, Mapping):
        documents = {}
        problems.append(Problem("policy documents", "they must be an object: write them again"))
    lists = {n: r for n, r in projects.items() if isinstance(r, list | tuple)}
    problems += [Problem(f"project {n}", "its roles must be a list: save it again") for n in projects if n not in lists]  # fmt: skip
    return Sources(
        {n: str(t or "") for n, t in documents.items() if _DOCUMENT.match(n)},
        str(documents.get("policy.default") or ""), str(documents.get("policy.matchMode") or "glob"),
        _scopes(documents.get("scopes")), tuple(roles), {n: tuple(r) for n, r in lists.items()}, tuple(grants), tuple(problems),
    )  # fmt: skip


def _scopes(value: Any) -> tuple[str, ...]:
    words = re.findall(r"[\w:./-]+", value) if isinstance(value, str) else value
    if not isinstance(words, list):
        words = []
    return tuple(str(word) for word in words) or ("groups",)


def subjects_of(account: Account) -> tuple[str, ...]:
    """Return the names under which policies can speak of an account.

    What a provider says can never be the name of a local account, a role or a project's role.
    """
    if account.is_local:
        return (account.name,)
    state = _current()
    return policy_subjects(record_of(account), state.scopes, state.local_names, state.naming)


def caller_of(account: Account, **how: Any) -> Caller:
    """Return the caller that an account is."""
    groups = tuple(g for g in account.groups if isinstance(g, str))
    return Caller(account.shown_name, account, subjects_of(account), groups, **how)


def identity_of(caller: Caller) -> dict[str, Any]:
    """Return what `caller_by` finds a caller again by, when work goes on without the request."""
    if caller.account is not None:
        return {"account": caller.account.pk}
    return {"subject": caller.subjects[0], "project": caller.project} if caller.project else {}


def caller_by(identity: Mapping[str, Any] | None) -> Caller:
    """Return the caller that `identity_of` described, with the rights of this moment; nobody known when they are gone."""
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
        decisions.note(resource, action, name, place)
    return found


def _decided(
    caller: Caller, resource: str, action: str, name: str, where: Where | None
) -> Decision:
    rights = caller.rights
    own = resource == "accounts" and caller.account is not None and caller.account.is_local
    if rights.enabled and own and caller.account and name == caller.account.name and action in ("get", "update"):  # fmt: skip
        return Decision(allowed=True)
    return decide_by(rights, resource, action, name, where)


def decide_by(
    rights: Rights, resource: str, action: str, name: str, where: Where | None = None
) -> Decision:
    """Return whether who has some rights may do an action to an object; an account's own is `decide`'s."""
    if not rights.enabled:
        return Decision(allowed=False)
    subjects = rights.subjects
    if rights.project and name != rights.project and not name.startswith(f"{rights.project}/"):
        subjects = ()
    return _current().enforcer.decide(subjects, resource, action, name, where)


def common(rights: Rights) -> Rights:
    """Return the rights without the names that no policy speaks of: most people of a team have these in common."""
    return rights._replace(subjects=_current().enforcer.relevant(rights.subjects))


def bearing(rights: Rights) -> object:
    """Return what decisions about who has some rights rest on; equal where a change of policies changes nothing for them."""
    return rights, _current().enforcer.bearing(rights.subjects)


def is_allowed(
    caller: Caller | None, resource: str, action: str, name: str, where: Where | None = None
) -> bool:
    """Return whether a caller may do an action to an object."""
    return caller is not None and decide(caller, resource, action, name, where).allowed


def require(
    caller: Caller, resource: str, action: str, name: str, project: str = "", where: Where | None = None
) -> None:  # fmt: skip
    """Return if the caller may, and record the refusal otherwise.

    Raises: AccessDenied with Argo CD's text.
    """
    if is_allowed(caller, resource, action, name, where):
        return
    audit.record_refusal(
        caller.name, action, resource, name, project, cluster=where.name if where else ""
    )
    raise AccessDenied(denial(caller, resource, action, name))


def require_any(caller: Caller, resource: str, action: str, name: str) -> None:
    """Return if there is anything of a resource that the caller may do something to; the refusal is recorded.

    The first decision about a request that changes something: it needs neither the body nor a look at the world.
    Raises: AccessDenied.
    """
    if not caller.rights.enabled or not _current().enforcer.touches(caller.subjects, resource):
        raise hide(caller, resource, action, name)


_finders: list[Callable[[str, str], Where | None]] = []


def find_where_by(finder: Callable[[str, str], Where | None]) -> None:
    """Let an app say on which cluster an object of its resources is."""
    _finders.append(finder)


def where_of(resource: str, name: str) -> Where | None:
    """Return the cluster that an object is about, None when there is none or no such object."""
    return next((found for finder in _finders if (found := finder(resource, name))), None)


def hide(caller: Caller, resource: str, action: str, name: str, project: str = "") -> AccessDenied:
    """Return the refusal that is the same for what is absent and for what is forbidden, recorded."""
    audit.record_refusal(caller.name, action, resource, name, project)
    return AccessDenied("permission denied")


def denial(caller: Caller, resource: str, action: str, name: str) -> str:
    """Return Argo CD's sentence for a refusal."""
    text = f"permission denied: {resource}, {action}, {name}, sub: {caller.subjects[0] if caller.subjects else caller.name}"
    if caller.issued_at:
        stamp = datetime.fromtimestamp(caller.issued_at, timezone.get_default_timezone())
        text += f", iat: {stamp.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return text


def reach(caller: Caller, resource: str, action: str) -> Reach:
    """Return the rules that say which objects a caller may do an action to; see `projects.visible`."""
    state = _current()
    found = _confined(state.enforcer.reach(caller.subjects, resource, action), caller)
    decisions.note(resource, action, *decisions.marks(found))
    return found


def _confined(found: Reach, caller: Caller) -> Reach:
    state = _current()
    if not caller.project:
        return found
    # The default role is everybody's; all else of a project's token stays in its project.
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
    """Return the policy documents, none when what is stored is none."""
    value = setting(SETTING)
    if not isinstance(value, dict):
        return {}
    return {n: v if n == "scopes" else str(v or "") for n, v in value.items()}


def check_documents(value: Any) -> list[str]:
    """Return a sentence per line that cannot be used; such lines disable nothing else.

    Raises: Invalid when the value is no set of documents.
    """
    if not isinstance(value, dict):
        raise Invalid("rbac must be an object with policy.csv, policy.default, scopes, policy.matchMode")  # fmt: skip
    for name, text in value.items():
        if name not in ("policy.default", "policy.matchMode", "scopes") and not _DOCUMENT.match(
            name
        ):
            raise Invalid(f"rbac: {name!r} is none of policy.csv, policy.NAME.csv, policy.default, policy.matchMode, scopes")  # fmt: skip
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
    """Return if every pattern in some policy documents can be used.

    Raises: Invalid naming the document, the line and the field.
    """
    for problem in _document_problems(value):
        if problem.is_pattern:
            raise Invalid(f"rbac[{problem.origin}]: {problem.message}")


def set_project_roles(project: str, roles: list[dict[str, Any]] | None) -> None:
    """Give a project's roles to access decisions; None when the project is gone."""
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
        "name": role.name, "description": role.description, "rules": role.rules, "members": role.members,
    }  # fmt: skip


def role_policy(role: Mapping[str, Any]) -> Policy:
    """Return the lines that a role kept as an object is equal to."""
    name, origin = str(role["name"]), f"role {role['name']}"
    rules, problems = list[Rule](), list[Problem]()
    for number, entry in enumerate(_list(role.get("rules")), 1):
        where = f"{origin}, rule {number}"
        try:
            rules.append(_role_rule(name, entry, where))
        except (RuleError, KeyError, TypeError, AttributeError) as error:
            problems.append(Problem(where, f"it cannot be read, save the role again: {error}"))
            if isinstance(entry, Mapping) and entry.get("effect") == "deny":
                # What nobody can read denies all that it may have meant to.
                resource, action, about = (_word(entry.get(f)) for f in ("resource", "action", "object"))  # fmt: skip
                rules.append(Rule(name, resource, action, about, "deny", where))
    members = tuple((str(member), name) for member in _list(role.get("members")))
    return Policy(tuple(rules), members, tuple(problems))


def _list(value: Any) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise TypeError("its rules and members must be lists")
    return value or []


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value else "*"


def _role_rule(name: str, entry: Mapping[str, Any], where: str) -> Rule:
    words = [entry[f] for f in ("resource", "action", "object")] + [entry.get("effect", "allow")]
    if not all(isinstance(word, str) for word in words):
        raise TypeError("resource, action, object and effect must be text")
    resource, action, about, effect = words
    scope = parse_scope(entry.get("clusters") or "")
    return Rule(name, resource, action, about, effect, where, scope)


def grant_json(grant: Grant) -> dict[str, Any]:
    """Return a grant as an object."""

    def stamp(at: datetime | None) -> str | None:
        return at.isoformat().replace("+00:00", "Z") if at else None

    return {
        "id": grant.pk, "subject": grant.subject, "resource": grant.resource, "action": grant.action, "object": grant.object,
        "clusters": grant.clusters, "startsAt": stamp(grant.starts_at), "endsAt": stamp(grant.ends_at), "reason": grant.reason,
        "ticket": grant.ticket, "grantedBy": grant.granted_by, "revokedAt": stamp(grant.revoked_at),
    }  # fmt: skip


def grant_rule(grant: Mapping[str, Any]) -> Rule:
    """Return the line that a grant is while it lasts."""
    return Rule(
        grant["subject"], grant["resource"], grant["action"], grant["object"], "allow",
        f"grant {grant['id']} until {grant['endsAt']}", parse_scope(grant.get("clusters") or ""),
    )  # fmt: skip


def checked_rule(rule: Any, field: str) -> dict[str, str]:
    """Return a rule of a role kept as an object.

    Raises: Invalid naming the field.
    """
    if not isinstance(rule, dict):
        raise Invalid(f"{field} must be an object")
    unknown = set(rule) - {"resource", "action", "object", "effect", "clusters"}
    if unknown:
        raise Invalid(f"{field}: {min(unknown)!r} is no field of a rule")
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
