"""List repositories and pull requests: choose the provider, authenticate, filter the answer."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.conf import settings

from appsets.generators.base import MAX_PARAMETER_SETS
from appsets.generators.errors import GeneratorError
from appsets.scm import azure, bitbucket, github, gitlab
from appsets.scm.credentials import Keys, app_token, check_server
from appsets.scm.filters import (
    Branch,
    Pull,
    Repository,
    chosen_repositories,
    filters_of,
    is_chosen_branch,
    is_chosen_pull,
    pull_filters_of,
    pull_params,
    repository_params,
)
from appsets.scm.gitea import Gitea
from appsets.scm.host import Host, HostError, origin
from appsets.scm.provider import Provider

Params = dict[str, Any]


class _Kind(NamedTuple):
    make: type[Provider]
    api: str
    base: Callable[[str], str]
    scm: tuple[str, ...]
    pull: tuple[str, ...]


def _plain(api: str) -> str:
    return api.rstrip("/")


_KINDS = {
    "github": _Kind(
        github.GitHub, github.API, github.base_of, ("organization",), ("owner", "repo")
    ),
    "gitlab": _Kind(gitlab.GitLab, gitlab.API, _plain, ("group",), ("project",)),
    "gitea": _Kind(Gitea, "", _plain, ("owner", "api"), ("owner", "repo", "api")),
    "bitbucket": _Kind(
        bitbucket.BitbucketCloud, bitbucket.CLOUD_API, _plain, ("owner", "user"), ("owner", "repo")
    ),
    "bitbucketServer": _Kind(
        bitbucket.BitbucketServer,
        "",
        bitbucket.server_base,
        ("project", "api"),
        ("project", "repo", "api"),
    ),
    "azureDevOps": _Kind(azure.AzureDevOps, azure.API, _plain, ("organization", "teamProject"), ()),
    "azuredevops": _Kind(
        azure.AzureDevOps, azure.API, _plain, (), ("organization", "project", "repo")
    ),
}
SCM = ("github", "gitlab", "gitea", "bitbucket", "bitbucketServer", "azureDevOps", "awsCodeCommit")
PULL = ("github", "gitlab", "gitea", "bitbucket", "bitbucketServer", "azuredevops")


def check_block(kind: str, block: Mapping[str, Any], where: str) -> None:
    """Check that a generator names one host with its required fields, and valid filters.

    Raises: GeneratorError naming the field.
    """
    name, inner = _provider(block, SCM if kind == "scmProvider" else PULL, where)
    pull_filters_of(block) if kind == "pullRequest" else filters_of(block)
    if name == "awsCodeCommit":
        return
    fields = _KINDS[name].scm if kind == "scmProvider" else _KINDS[name].pull
    for field in fields:
        if not isinstance(inner.get(field), str | int) or not str(inner[field]):
            raise GeneratorError(f"{where}.{name}.{field} is required")
    if block.get("cloneProtocol") not in (None, "", "ssh", "https"):
        raise GeneratorError(
            f"{where}.cloneProtocol must be ssh or https, not {block['cloneProtocol']!r}"
        )


def _provider(
    block: Mapping[str, Any], known: Sequence[str], where: str
) -> tuple[str, Mapping[str, Any]]:
    found = [n for n in known if block.get(n) is not None]
    if len(found) != 1:
        raise GeneratorError(
            f"{where} must name one host of {', '.join(known)}, not {' and '.join(found) or 'none'}"
        )
    inner = block[found[0]]
    if not isinstance(inner, Mapping):
        raise GeneratorError(f"{where}.{found[0]} must be an object")
    return found[0], inner


def place(block: Mapping[str, Any]) -> str:
    """Return the repository of a pull request generator, empty if it cannot be known.

    Shapes: `owner/repo` in lower case, as in webhook events; templates and numbers are unknown.
    """
    name = next((n for n in PULL if isinstance(block.get(n), Mapping)), "")
    inner = block.get(name) or {}
    parts = (
        [inner.get("project")]
        if name == "gitlab"
        else [inner.get("owner") or inner.get("project"), inner.get("repo")]
    )
    text = "/".join(str(p or "") for p in parts).lower()
    return "" if "{{" in text or text.isdigit() else text


def repositories(block: Mapping[str, Any], keys: Keys) -> list[Params]:
    """Return the parameters of a generator of repositories.

    Raises: GeneratorError, HostError.
    """
    check_block("scmProvider", block, "scmProvider")
    name, inner = _provider(block, SCM, "scmProvider")
    filters = filters_of(block)
    provider = _provider_of(name, inner, keys, f"scmProvider.{name}")
    try:
        found: list[Params] = []
        for one in chosen_repositories(provider.repositories(), filters):
            for branch in _branches(provider, one, filters, every=bool(inner.get("allBranches"))):
                found.append(repository_params(one, branch, str(block.get("cloneProtocol") or "")))
                if len(found) > MAX_PARAMETER_SETS:
                    raise GeneratorError(
                        f"scmProvider.{name} finds more than {MAX_PARAMETER_SETS} branches"
                    )
        return found
    finally:
        provider.close()


def _branches(
    provider: Provider, one: Repository, filters: Sequence[Mapping[str, Any]], *, every: bool
) -> Iterator[Branch]:
    if every:
        found: Iterator[Branch | None] = provider.branches(one)
    else:
        found = iter([provider.branch(one, one.default_branch) if one.default_branch else None])
    for branch in found:
        if branch is not None and is_chosen_branch(
            one, branch, filters, partial(provider.has_path, one, branch)
        ):
            yield branch


def pulls(
    block: Mapping[str, Any], keys: Keys, before: Sequence[Mapping[str, Any]]
) -> list[Params]:
    """Return the parameters of a generator of pull requests.

    An empty list after a list with pull requests counts only if one of those is closed itself.

    Shapes: `before` is the last good answer.
    Raises: GeneratorError, HostError.
    """
    check_block("pullRequest", block, "pullRequest")
    name, inner = _provider(block, PULL, "pullRequest")
    filters, labels = pull_filters_of(block), [str(label) for label in inner.get("labels") or []]
    provider = _provider_of(name, inner, keys, f"pullRequest.{name}")
    try:
        found = [pull_params(p) for p in provider.pulls() if is_chosen_pull(p, filters, labels)]
        if not found:
            _check_empty(
                provider,
                [int(p["number"]) for p in before],
                lambda p: is_chosen_pull(p, filters, labels),
            )
        return found
    except HostError as error:
        if error.status == 404 and block.get("continueOnRepoNotFoundError"):
            return []
        raise
    finally:
        provider.close()


def _check_empty(
    provider: Provider, numbers: Sequence[int], is_chosen: Callable[[Pull], bool]
) -> None:
    """Check that an empty list is plausible: pull requests that were open are closed now.

    Raises: HostError.
    """
    for number in numbers[:3]:
        one = provider.pull(number)
        if one is not None and is_chosen(one):
            raise HostError(
                f"{provider.host.server} lists no pull request although #{number} is open"
            )


def _provider_of(name: str, inner: Mapping[str, Any], keys: Keys, where: str) -> Provider:
    if name == "awsCodeCommit":
        return _codecommit(inner, keys, where)
    kind = _KINDS[name]
    base = kind.base(str(inner.get("api") or kind.api))
    server = origin(base)
    has_secret = any(
        inner.get(f)
        for f in (
            "tokenRef",
            "accessTokenRef",
            "appPasswordRef",
            "appSecretName",
            "basicAuth",
            "bearerToken",
        )
    )
    check_server(server, where, has_secret=has_secret)
    trust = keys.trust(inner, where)
    headers, auth, identity = _identity(name, inner, keys, base, where)
    if inner.get("appSecretName"):
        token, identity = app_token(
            keys, str(inner["appSecretName"]), base, f"{where}.appSecretName", trust
        )
        headers["Authorization"] = f"Bearer {token}"
    if name == "github":
        headers |= github.HEADERS
    return kind.make(
        Host(
            base,
            f"{where}.api",
            headers=headers,
            auth=auth,
            trust=trust,
            identity=identity,
            project=keys.project,
        ),
        inner,
    )


def _codecommit(inner: Mapping[str, Any], keys: Keys, where: str) -> Provider:
    if not (settings.SCM_GENERATORS and settings.SCM_AWS):
        raise GeneratorError(
            f"{where}: sets may use the AWS identity of the hub only with HUB_SCM_AWS=true"
        )
    from appsets.scm.codecommit import CodeCommit

    return CodeCommit(inner, keys.project)


def _identity(
    name: str, inner: Mapping[str, Any], keys: Keys, base: str, where: str
) -> tuple[dict[str, str], tuple[str, str] | None, str]:
    """Return the headers, or the name and password, that authenticate a request."""
    server = origin(base)
    if inner.get("appPasswordRef"):
        password = keys.value(inner["appPasswordRef"], server, f"{where}.appPasswordRef")
        return {}, (str(inner.get("user") or ""), password), ""
    for field, inner_field in (("basicAuth", "passwordRef"), ("bearerToken", "tokenRef")):
        block = inner.get(field)
        if block:
            if not isinstance(block, Mapping):
                raise GeneratorError(f"{where}.{field} must be an object")
            value = keys.value(block.get(inner_field), server, f"{where}.{field}.{inner_field}")
            if field == "bearerToken":
                return {"Authorization": f"Bearer {value}"}, None, ""
            return {}, (str(block.get("username") or ""), value), ""
    for field in ("tokenRef", "accessTokenRef"):
        if inner.get(field):
            token = keys.value(inner[field], server, f"{where}.{field}")
            return _token_headers(name, token), None, ""
    return {}, None, ""


def _token_headers(name: str, token: str) -> dict[str, str]:
    if name == "gitlab":
        return {"PRIVATE-TOKEN": token}
    if name == "gitea":
        return {"Authorization": f"token {token}"}
    if name.lower() == "azuredevops":
        return {"Authorization": "Basic " + base64.b64encode(f":{token}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"}
