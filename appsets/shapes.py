"""What an ApplicationSet's spec looks like: the type of every field that the hub reads, so that the first wrong one is named.

Source: the ApplicationSet definition of Argo CD 3.6, and `spec.flotilla`. Fields that are not listed may hold anything.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hub.engine.errors import RuleError

Check = Callable[[Any, str], None]


def _is(kind: type | tuple[type, ...], word: str) -> Check:
    def check(value: Any, where: str) -> None:
        wrong = isinstance(value, bool) and kind is not bool
        if wrong or not isinstance(value, kind):
            raise RuleError(f"{where} must be {word}")

    return check


TEXT, FLAG, NUMBER, OBJECT = (
    _is(str, "text"),
    _is(bool, "true or false"),
    _is(int, "a whole number"),
    _is(dict, "an object"),
)
COUNT = _is((int, str), "a whole number or a percentage")
NAME = _is((str, int), "text")


def each(inner: Check) -> Check:
    """Return a check of a list."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise RuleError(f"{where} must be a list")
        for number, one in enumerate(value):
            inner(one, f"{where}[{number}]")

    return check


def of(**fields: Check) -> Check:
    """Return a check of an object by its fields; what is absent or null passes."""

    def check(value: Any, where: str) -> None:
        OBJECT(value, where)
        for name, inner in fields.items():
            if value.get(name) is not None:
                inner(value[name], f"{where}.{name}")

    return check


def maps(inner: Check) -> Check:
    """Return a check of an object whose values are alike."""

    def check(value: Any, where: str) -> None:
        OBJECT(value, where)
        for key, one in value.items():
            inner(one, f"{where}.{key}")

    return check


TEXTS, TEXT_MAP = each(TEXT), maps(TEXT)
SELECTOR = of(
    matchLabels=TEXT_MAP, matchExpressions=each(of(key=TEXT, operator=TEXT, values=TEXTS))
)
TEMPLATE = of(
    metadata=of(name=TEXT, namespace=TEXT, labels=TEXT_MAP, annotations=TEXT_MAP, finalizers=TEXTS),
    spec=OBJECT,
)
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
_OWN: dict[str, Check] = {"template": TEMPLATE, "values": TEXT_MAP, "requeueAfterSeconds": NUMBER}
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
_PATHS = each(of(path=TEXT, exclude=FLAG))


def _generators(value: Any, where: str) -> None:
    each(GENERATOR)(value, where)


_NESTED: dict[str, Check] = {"generators": _generators, "mergeKeys": TEXTS, "template": TEMPLATE}
GENERATOR = of(
    selector=SELECTOR,
    list=of(elements=each(OBJECT), elementsYaml=TEXT, template=TEMPLATE),
    clusters=of(selector=SELECTOR, flatList=FLAG, **_OWN),
    git=of(
        repoURL=TEXT, revision=TEXT, directories=_PATHS, files=_PATHS, pathParamPrefix=TEXT, **_OWN
    ),
    scmProvider=of(filters=each(_FILTER), cloneProtocol=TEXT, **_HOSTS, **_OWN),
    pullRequest=of(filters=each(_FILTER), continueOnRepoNotFoundError=FLAG, **_HOSTS, **_OWN),
    plugin=of(configMapRef=OBJECT, input=of(parameters=OBJECT), **_OWN),
    clusterDecisionResource=of(configMapRef=TEXT, name=TEXT, labelSelector=SELECTOR, **_OWN),
    matrix=of(**_NESTED),
    merge=of(**_NESTED),
)
_ROLLOUT: dict[str, Check] = {"soak": TEXT, "maxDegraded": COUNT}
SPEC = of(
    goTemplate=FLAG,
    goTemplateOptions=TEXTS,
    generators=each(GENERATOR),
    template=TEMPLATE,
    templatePatch=TEXT,
    syncPolicy=of(preserveResourcesOnDeletion=FLAG, applicationsSync=TEXT),
    strategy=of(
        type=TEXT,
        deletionOrder=TEXT,
        rollingSync=of(
            steps=each(
                of(
                    matchExpressions=each(of(key=TEXT, operator=TEXT, values=TEXTS)),
                    maxUpdate=COUNT,
                )
            )
        ),
    ),
    preservedFields=of(labels=TEXTS, annotations=TEXTS),
    ignoreApplicationDifferences=each(of(name=TEXT, jsonPointers=TEXTS, jqPathExpressions=TEXTS)),
    flotilla=of(
        deletion=of(maxApplications=NUMBER, maxPercent=NUMBER),
        rollout=of(steps=each(of(**_ROLLOUT)), **_ROLLOUT),
    ),
)


def check_spec(spec: Mapping[str, Any]) -> None:
    """Return if every field of a spec has its type.

    Raises: RuleError naming the first that has not.
    """
    SPEC(spec, "spec")
