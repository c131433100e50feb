"""The generators whose parameters a host returns: SCM providers, pull requests, plugins, decisions.

The request itself is a fetcher of the same name in `appsets.scm.fetchers`.
"""

from collections.abc import Mapping
from typing import Any

from appsets.generators.base import Block, Generator, Input, Labels, Make, Params, Run
from appsets.generators.field_types import (
    FLAG,
    NAME,
    OBJECT,
    SELECTOR,
    TEXT,
    TEXTS,
    Check,
    each,
    of,
)
from appsets.generators.parameters import COMMON_FIELDS, with_values
from appsets.template import fast


def _hosted(kind: str, *, only_go: tuple[str, ...] = ()) -> Make:
    """Return the function of a generator; parameters `only_go` need goTemplate."""

    def make(run: Run, block: Mapping[str, Any], where: str) -> list[Params]:
        found = run.inputs.fetch_parameters(kind, block)
        if only_go and not run.go:
            found = [{k: v for k, v in p.items() if k not in only_go} for p in found]
        return [with_values(run, block, p if run.go else fast.flatten(p), where) for p in found]

    return make


def _is_registered_or_removed(_block: Block, before: Labels | None, after: Labels | None) -> bool:
    return before is None or after is None


_REF = of(secretName=TEXT, key=TEXT)
_CA = of(configMapName=TEXT, key=TEXT)
_HOST: dict[str, Check] = {
    "api": TEXT,
    "tokenRef": _REF,
    "accessTokenRef": _REF,
    "appPasswordRef": _REF,
    "appSecretName": TEXT,
    "caRef": _CA,
    "insecure": FLAG,
    "basicAuth": of(username=TEXT, passwordRef=_REF),
    "bearerToken": of(tokenRef=_REF),
    "allBranches": FLAG,
    "owner": TEXT,
    "repo": TEXT,
    "organization": TEXT,
    "group": TEXT,
    "project": NAME,
    "teamProject": TEXT,
    "user": TEXT,
    "labels": TEXTS,
    "pullRequestState": TEXT,
    "excludeArchivedRepos": FLAG,
    "includeSubgroups": FLAG,
    "includeSharedProjects": FLAG,
    "includeArchivedRepos": FLAG,
    "topic": TEXT,
    "role": TEXT,
    "region": TEXT,
    "tagFilters": each(of(key=TEXT, value=TEXT)),
}
_FILTER = of(
    repositoryMatch=TEXT,
    labelMatch=TEXT,
    branchMatch=TEXT,
    targetBranchMatch=TEXT,
    titleMatch=TEXT,
    pathsExist=TEXTS,
    pathsDoNotExist=TEXTS,
)
_HOSTS = {
    n: of(**_HOST)
    for n in (
        "github",
        "gitlab",
        "gitea",
        "bitbucket",
        "bitbucketServer",
        "azureDevOps",
        "azuredevops",
        "awsCodeCommit",
    )
}

_HOST_INPUT = frozenset({Input.HOST})
SCM_PROVIDER = Generator(
    "scmProvider",
    _hosted("scmProvider"),
    {"filters": each(_FILTER), "cloneProtocol": TEXT, **_HOSTS, **COMMON_FIELDS},
    inputs=_HOST_INPUT,
    interval_seconds=1800,
)
PULL_REQUEST = Generator(
    "pullRequest",
    _hosted("pullRequest", only_go=("labels",)),
    {
        "filters": each(_FILTER),
        "continueOnRepoNotFoundError": FLAG,
        **_HOSTS,
        **COMMON_FIELDS,
    },
    inputs=_HOST_INPUT,
    interval_seconds=1800,
)
PLUGIN = Generator(
    "plugin",
    _hosted("plugin"),
    {"configMapRef": OBJECT, "input": of(parameters=OBJECT), **COMMON_FIELDS},
    inputs=_HOST_INPUT,
    interval_seconds=1800,
)
CLUSTER_DECISION = Generator(
    "clusterDecisionResource",
    _hosted("clusterDecisionResource"),
    {"configMapRef": TEXT, "name": TEXT, "labelSelector": SELECTOR, **COMMON_FIELDS},
    inputs=frozenset({Input.HOST, Input.CLUSTERS}),
    interval_seconds=180,
    depends_on_cluster=_is_registered_or_removed,
)
