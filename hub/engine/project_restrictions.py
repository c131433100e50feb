"""Project restrictions: permitted sources, destinations and kinds.

Source: as Argo CD 3.6's AppProject.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from hub.engine.errors import RuleError
from hub.engine.globs import check, check_all, check_count, denies, matches


@lru_cache(maxsize=8192)
def normal_url(url: str) -> str:
    """Normalize a repository URL or URL pattern, so that equal ones compare equal.

    Scheme and host are case-insensitive. The path is not: many servers distinguish `Team/app` from
    `team/app`.
    """
    text = url.strip()
    scp = re.match(r"^([\w.-]+@)?([\w.-]+):(?!//)(?!\d+/)(.+)\Z", text)
    if scp and "://" not in text:
        text = f"ssh://{scp.group(1) or ''}{scp.group(2)}/{scp.group(3).lstrip('/')}"
    scheme, separator, rest = text.rstrip("/").removesuffix(".git").rpartition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    # `**` also matches slashes, so the "host" may include a path.
    host = host if "**" in host else host.lower()
    return f"{scheme.lower()}{separator}{user}{at}{host}{slash}{path}"


def folded_url(url: str) -> str:
    """Normalize a repository URL and ignore the case of its path, as some servers do."""
    return normal_url(url).lower()


def has_dot_segments(path: str) -> bool:
    """Return whether a URL or path has a `.` or `..` segment, also when percent-encoded."""
    parts = re.split(r"[/:\\]", unquote(unquote(path.partition("?")[0])))
    return any(part in (".", "..") for part in parts)


_DEFAULT_PORTS = {"https": "443", "http": "80", "ssh": "22", "git": "9418"}


@lru_cache(maxsize=8192)
def _plain_url(url: str) -> str:
    """Normalize a URL further, removing everything that a server may ignore.

    That is user, default port, trailing dot of the host, query, repeated slashes and
    percent-encoding.
    """
    text = folded_url(url.partition("#")[0].partition("?")[0])
    scheme, separator, rest = text.partition("://")
    if not separator:
        # `host:22/path` is a registry with a port in Helm, but a path on a host in Git.
        return _plain_url(f"ssh://{text.replace(':', '/', 1)}") if ":" in text else text
    authority, slash, path = unquote(rest).partition("/")
    path = re.sub("/+", "/", path).lstrip("/")
    return folded_url(f"{scheme}://{_plain_host(scheme, authority)}{slash}{path}")


def _plain_host(scheme: str, authority: str) -> str:
    host = authority.rpartition("@")[2].removesuffix(f":{_DEFAULT_PORTS.get(scheme)}")
    return host.rstrip(".")


def permits_source(spec: Mapping[str, Any], url: str) -> bool:
    """Return whether a project's `sourceRepos` permit a repository; `!` denies.

    A URL with `.` or `..` segments is never permitted, since servers resolve them to another path.
    Paths are permitted in the exact case, and denied in any case. A denied repository stays denied
    with another user, its default port or a query.
    """
    if has_dot_segments(url):
        return False
    allowed, wanted = False, normal_url(url)
    for pattern in spec.get("sourceRepos") or []:
        if pattern.startswith("!"):
            if _denies_source(pattern[1:], url):
                return False
        elif pattern == "*" or matches(normal_url(pattern), wanted, separator=True):
            allowed = True
    return allowed


def _denies_source(pattern: str, url: str) -> bool:
    return denies(folded_url(pattern), folded_url(url), separator=True) or denies(
        _plain_pattern(pattern), _plain_url(url), separator=True
    )


@lru_cache(maxsize=8192)
def _plain_pattern(pattern: str) -> str:
    """Normalize a URL pattern like `_plain_url`: without user, default port and trailing dot."""
    scheme, separator, rest = folded_url(pattern).partition("://")
    if not separator:
        return folded_url(pattern)
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{_plain_host(scheme, authority)}{slash}{path}"


def permits_destination(spec: Mapping[str, Any], server: str, name: str, namespace: str) -> bool:
    """Return whether a project's `destinations` permit a cluster and namespace; `!` denies."""
    allowed = False
    for entry in spec.get("destinations") or []:
        fits = [
            _negatable(entry.get(field) or "", value)
            for field, value in (("server", server), ("name", name), ("namespace", namespace))
        ]
        by_server, by_name, by_namespace = fits
        if "denied" in fits:
            if _denies(entry, server, name, namespace):
                return False
            continue
        if (by_server == "yes" or by_name == "yes") and by_namespace == "yes":
            allowed = True
    return allowed


def _negatable(pattern: str, value: str) -> str:
    if pattern.startswith("!"):
        return "denied"
    return "yes" if pattern and matches(pattern, value) else "no"


def _denies(entry: Mapping[str, Any], server: str, name: str, namespace: str) -> bool:
    def hit(field: str, value: str) -> bool:
        pattern = entry.get(field) or ""
        return pattern.startswith("!") and denies(pattern[1:], value)

    def plain(field: str, value: str) -> bool:
        pattern = entry.get(field) or ""
        return bool(pattern) and not pattern.startswith("!") and denies(pattern, value)

    if hit("server", server) or hit("name", name):
        return True
    place = (
        plain("server", server)
        or plain("name", name)
        or not (entry.get("server") or entry.get("name"))
    )
    return hit("namespace", namespace) and place


def permits_kind(
    spec: Mapping[str, Any], group: str, kind: str, name: str, *, namespaced: bool
) -> bool:
    """Return whether a project's allow and deny lists permit a kind.

    Cluster-scoped kinds must be listed; namespaced kinds are permitted when there is no list.
    """
    if namespaced:
        allow, deny = spec.get("namespaceResourceWhitelist"), spec.get("namespaceResourceBlacklist")
    else:
        allow, deny = (
            spec.get("clusterResourceWhitelist") or [],
            spec.get("clusterResourceBlacklist"),
        )
    return (allow is None or _listed(allow, group, kind, name)) and not _listed(
        deny, group, kind, name, denies
    )


Asks = Callable[[str, str], bool]


def _listed(
    entries: Sequence[Mapping[str, Any]] | None,
    group: str,
    kind: str,
    name: str,
    fits: Asks = matches,
) -> bool:
    return any(
        fits(entry.get("group") or "", group)
        and fits(entry.get("kind") or "", kind)
        and (not entry.get("name") or fits(entry["name"], name))
        for entry in entries or []
    )


def source_violations(spec: Mapping[str, Any], project: str, urls: Sequence[str]) -> list[str]:
    """Return a message per repository that a project does not permit."""
    return [
        f"application repo {url} is not permitted in project '{project}'"
        for url in urls
        if not permits_source(spec, url)
    ]


def restriction_violations(
    spec: Mapping[str, Any], project: str, urls: Sequence[str], destination: tuple[str, str, str]
) -> list[str]:
    """Return a message per restriction of the project that an application violates."""
    found = source_violations(spec, project, urls)
    server, name, namespace = destination
    if not permits_destination(spec, server, name, namespace):
        found.append(
            f"application destination server '{server}' and namespace '{namespace}' do not match "
            f"any of the allowed destinations in project '{project}'"
        )
    return found


_KIND_LISTS = (
    "clusterResourceWhitelist",
    "clusterResourceBlacklist",
    "namespaceResourceWhitelist",
    "namespaceResourceBlacklist",
)
_LISTS = (
    *_KIND_LISTS,
    "syncWindows",
    "sourceRepos",
    "destinations",
    "destinationServiceAccounts",
)


def with_global_projects(
    spec: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a project's spec with the lists of global projects appended.

    Roles, orphaned-resource settings and signature keys of global projects are ignored.
    """
    result = dict(spec)
    for other in others:
        for field in _LISTS:
            if other.get(field):
                result[field] = [*(result.get(field) or []), *other[field]]
    return result


def matches_label_selector(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a Kubernetes label selector matches labels; an empty one matches all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or [])


def _expression(entry: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    operator, value = entry.get("operator"), labels.get(str(entry.get("key")))
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    inside = value in (entry.get("values") or [])
    return inside if operator == "In" else not inside


def service_account_for(
    spec: Mapping[str, Any], server: str, namespace: str, fallback: str
) -> str | None:
    """Return the user that syncs to a destination impersonate, None if no entry matches.

    Shapes: `system:serviceaccount:<namespace>:<name>`; the first matching entry wins.
    Raises: RuleError naming an invalid entry before the one that matches.
    """
    for number, entry in enumerate(spec.get("destinationServiceAccounts") or []):
        # An invalid entry must not fall through to a later, possibly more privileged one.
        _check_account(entry, number)
        if matches(str(entry.get("server") or ""), server) and matches(
            str(entry.get("namespace") or ""), namespace
        ):
            prefix, separator, name = str(entry.get("defaultServiceAccount") or "").rpartition(":")
            return f"system:serviceaccount:{prefix if separator else namespace or fallback}:{name}"
    return None


def check_restrictions(spec: Mapping[str, Any]) -> None:
    """Check all patterns in a project's lists.

    Shapes: a spec whose fields have the right types.
    Raises: RuleError naming the field.
    """
    for number, url in enumerate(spec.get("sourceRepos") or []):
        check(normal_url(url.removeprefix("!")), f"spec.sourceRepos[{number}]")
    check_count(spec.get("sourceRepos") or [], "spec.sourceRepos")
    check_all(spec.get("sourceNamespaces"), "spec.sourceNamespaces")
    ignored = (spec.get("orphanedResources") or {}).get("ignore")
    lists = {
        "spec.destinations": (spec.get("destinations"), ("server", "name", "namespace")),
        "spec.orphanedResources.ignore": (ignored, ("group", "kind", "name")),
        **{f"spec.{f}": (spec.get(f), ("group", "kind", "name")) for f in _KIND_LISTS},
    }
    for where, (entries, fields) in lists.items():
        check_count(entries or [], where)
        for number, entry in enumerate(entries or []):
            for field in fields:
                pattern = str(entry.get(field) or "")
                check(pattern.removeprefix("!"), f"{where}[{number}].{field}")


def check_service_accounts(entries: Any) -> None:
    """Check `destinationServiceAccounts`.

    Raises: RuleError naming the field.
    """
    check_count(entries or [], "spec.destinationServiceAccounts")
    for number, entry in enumerate(entries or []):
        _check_account(entry, number)


def _check_account(entry: Any, number: int) -> None:
    where = f"spec.destinationServiceAccounts[{number}]"
    if not isinstance(entry, dict):
        raise RuleError(f"{where} must be an object")
    for field in ("server", "namespace", "defaultServiceAccount"):
        value = entry.get(field)
        if not isinstance(value, str) or (not value.strip() and field != "namespace"):
            raise RuleError(f"{where}.{field} must be text")
        if value.startswith("!") or (
            field == "defaultServiceAccount" and any(c in value for c in "!*[]{}\\/")
        ):
            raise RuleError(f"{where}.{field} has an invalid format: {value!r}")
        check(value, f"{where}.{field}")


def lists_kind(spec: Mapping[str, Any], group: str, kind: str, name: str) -> bool:
    """Return whether a project explicitly allows a kind, and no deny list has it.

    For kinds that an empty list does not allow. The lists for namespaced and cluster-scoped kinds
    count alike.
    """
    allow = ("namespaceResourceWhitelist", "clusterResourceWhitelist")
    deny = ("namespaceResourceBlacklist", "clusterResourceBlacklist")
    return any(_listed(spec.get(field), group, kind, name) for field in allow) and not any(
        _listed(spec.get(field), group, kind, name, denies) for field in deny
    )


def reaches_cluster(spec: Mapping[str, Any], server: str, name: str) -> bool:
    """Return whether a project's `destinations` permit any namespace of a cluster; `!` denies."""
    found = False
    for entry in spec.get("destinations") or []:
        by_server = _negatable(entry.get("server") or "", server)
        by_name = _negatable(entry.get("name") or "", name)
        if _denies({**entry, "namespace": ""}, server, name, ""):
            return False
        denies = any(
            str(entry.get(f) or "").startswith("!") for f in ("server", "name", "namespace")
        )
        found = found or (not denies and "yes" in (by_server, by_name))
    return found
