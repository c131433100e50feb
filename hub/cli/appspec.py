"""Flags of `app create`, `app set` and `app unset`, and how each changes a manifest.

Pure functions: values in, values out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.cli import unsupported
from hub.cli.problem import Problem

Spec = dict[str, Any]
_POLICIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "manual": None,
    "": None,
    "auto": {},
    "automatic": {},
    "automated": {},
}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its names, the field that it sets, and how."""

    names: tuple[str, ...]
    help: str
    to: str = ""
    """Dotted field: of the source when it begins with a dot, of the spec otherwise."""
    many: bool = False
    switch: bool = False
    number: bool = False
    special: str = ""

    @property
    def key(self) -> str:
        """The flag's key among values."""
        return self.names[0].lstrip("-").replace("-", "_")


def _flag(names: str, text: str, to: str = "", **how: Any) -> Flag:
    return Flag(tuple(names.split()), text, to, **how)


FLAGS: tuple[Flag, ...] = (
    _flag("--repo", "URL of the repository.", ".repoURL"),
    _flag("--path", "Folder in the repository.", ".path"),
    _flag("--revision", "Branch, tag, commit or chart version.", ".targetRevision"),
    _flag("--helm-chart", "Chart of a Helm repository.", ".chart"),
    _flag("--tag-prefix", "Only tags with this prefix.", ".tagPrefix"),
    _flag("--ref", "Name by which other sources refer to this one.", ".ref"),
    _flag("--dest-server", "URL of the cluster.", "destination.server"),
    _flag("--dest-name", "Name of the cluster.", "destination.name"),
    _flag("--dest-namespace", "Namespace in the cluster.", "destination.namespace"),
    _flag("--project", "Project.", "project"),
    _flag("--sync-policy", "none or automated (manual, auto, automatic).", special="policy"),
    _flag("--auto-prune", "Automated sync prunes.", "syncPolicy.automated.prune", switch=True),
    _flag(
        "--self-heal", "Automated sync heals drift.", "syncPolicy.automated.selfHeal", switch=True
    ),
    _flag(
        "--allow-empty",
        "Automated sync may remove everything.",
        "syncPolicy.automated.allowEmpty",
        switch=True,
    ),
    _flag(
        "--sync-option", "Such as Prune=false; a leading ! removes it.", special="option", many=True
    ),
    _flag(
        "--sync-retry-limit",
        "Number of retries of a sync.",
        "syncPolicy.retry.limit",
        number=True,
    ),
    _flag(
        "--sync-retry-backoff-duration",
        "Wait before the first retry.",
        "syncPolicy.retry.backoff.duration",
    ),
    _flag(
        "--sync-retry-backoff-factor",
        "Factor between the waits of retries.",
        "syncPolicy.retry.backoff.factor",
        number=True,
    ),
    _flag(
        "--sync-retry-backoff-max-duration",
        "Longest wait between retries.",
        "syncPolicy.retry.backoff.maxDuration",
    ),
    _flag(
        "--sync-retry-refresh",
        "A retry takes the newest revision.",
        "syncPolicy.retry.refresh",
        switch=True,
    ),
    _flag(
        "--revision-history-limit",
        "Number of deployments in the history.",
        "revisionHistoryLimit",
        number=True,
    ),
    _flag("--env", "Changes nothing: its tool does not exist any more.", special="ignored"),
    _flag("--values", "Value file in the repository.", ".helm.valueFiles", many=True),
    _flag("--values-literal-file", "File on this machine with values.", special="literal"),
    _flag("--release-name", "Helm release name.", ".helm.releaseName"),
    _flag("--helm-set", "name=value.", special="helm", many=True),
    _flag("--helm-set-string", "name=value, as text.", special="helm_string", many=True),
    _flag("--helm-set-file", "name=path in the repository.", special="helm_file", many=True),
    _flag(
        "--helm-pass-credentials",
        "Send credentials to all hosts of the chart.",
        ".helm.passCredentials",
        switch=True,
    ),
    _flag("--helm-skip-crds", "Skip CustomResourceDefinitions.", ".helm.skipCrds", switch=True),
    _flag(
        "--helm-skip-schema-validation",
        "Skip validation of the values' schema.",
        ".helm.skipSchemaValidation",
        switch=True,
    ),
    _flag("--helm-skip-tests", "Skip tests.", ".helm.skipTests", switch=True),
    _flag("--helm-namespace", "Namespace that the chart is rendered for.", ".helm.namespace"),
    _flag(
        "--helm-kube-version", "Kubernetes version to render the chart for.", ".helm.kubeVersion"
    ),
    _flag(
        "--helm-api-versions",
        "API versions to render the chart for.",
        ".helm.apiVersions",
        many=True,
    ),
    _flag("--helm-version", "Version of Helm.", ".helm.version"),
    _flag(
        "--ignore-missing-value-files",
        "Ignore missing value files.",
        ".helm.ignoreMissingValueFiles",
        switch=True,
    ),
    _flag("--parameter -p", "Helm parameter name=value.", special="helm", many=True),
    _flag("--nameprefix", "Kustomize name prefix.", ".kustomize.namePrefix"),
    _flag("--namesuffix", "Kustomize name suffix.", ".kustomize.nameSuffix"),
    _flag("--kustomize-image", "name=new:tag.", special="image", many=True),
    _flag("--kustomize-replica", "name=count.", special="replica", many=True),
    _flag("--kustomize-version", "Version of Kustomize.", ".kustomize.version"),
    _flag("--kustomize-namespace", "Kustomize namespace.", ".kustomize.namespace"),
    _flag(
        "--kustomize-common-label",
        "key=value.",
        ".kustomize.commonLabels",
        special="map",
        many=True,
    ),
    _flag(
        "--kustomize-common-annotation",
        "key=value.",
        ".kustomize.commonAnnotations",
        special="map",
        many=True,
    ),
    _flag(
        "--kustomize-label-without-selector",
        "Do not add labels to selectors.",
        ".kustomize.labelWithoutSelector",
        switch=True,
    ),
    _flag(
        "--kustomize-label-include-templates",
        "Add labels to templates.",
        ".kustomize.labelIncludeTemplates",
        switch=True,
    ),
    _flag(
        "--kustomize-force-common-label",
        "Overwrite existing labels.",
        ".kustomize.forceCommonLabels",
        switch=True,
    ),
    _flag(
        "--kustomize-force-common-annotation",
        "Overwrite existing annotations.",
        ".kustomize.forceCommonAnnotations",
        switch=True,
    ),
    _flag(
        "--kustomize-kube-version",
        "Kubernetes version to render for.",
        ".kustomize.kubeVersion",
    ),
    _flag(
        "--kustomize-api-versions",
        "API versions to render for.",
        ".kustomize.apiVersions",
        many=True,
    ),
    _flag(
        "--ignore-missing-components",
        "Ignore missing components.",
        ".kustomize.ignoreMissingComponents",
        switch=True,
    ),
    _flag("--directory-recurse", "Include subfolders.", ".directory.recurse", switch=True),
    _flag("--directory-include", "Glob of files to include.", ".directory.include"),
    _flag("--directory-exclude", "Glob of files to exclude.", ".directory.exclude"),
    _flag(
        "--directory-disable-extension-filter",
        "Include files with any extension.",
        ".directory.disableExtensionFilter",
        switch=True,
    ),
    _flag(
        "--jsonnet-tla-str", "name=value.", ".directory.jsonnet.tlas", special="jsonnet", many=True
    ),
    _flag(
        "--jsonnet-tla-code",
        "name=code.",
        ".directory.jsonnet.tlas",
        special="jsonnet_code",
        many=True,
    ),
    _flag(
        "--jsonnet-ext-var-str",
        "name=value.",
        ".directory.jsonnet.extVars",
        special="jsonnet",
        many=True,
    ),
    _flag(
        "--jsonnet-ext-var-code",
        "name=code.",
        ".directory.jsonnet.extVars",
        special="jsonnet_code",
        many=True,
    ),
    _flag("--jsonnet-libs", "Folder of Jsonnet libraries.", ".directory.jsonnet.libs", many=True),
    _flag("--config-management-plugin", "Plugin that renders it.", ".plugin.name"),
    _flag("--plugin-env", "name=value for the plugin.", ".plugin.env", special="env", many=True),
    _flag("--dry-source-repo", "Repository to hydrate.", "sourceHydrator.drySource.repoURL"),
    _flag("--dry-source-revision", "Its revision.", "sourceHydrator.drySource.targetRevision"),
    _flag("--dry-source-path", "Its folder.", "sourceHydrator.drySource.path"),
    _flag(
        "--sync-source-branch",
        "Branch with the hydrated manifests.",
        "sourceHydrator.syncSource.targetBranch",
    ),
    _flag("--sync-source-path", "Its folder.", "sourceHydrator.syncSource.path"),
    _flag(
        "--hydrate-to-branch",
        "Branch that hydration writes to.",
        "sourceHydrator.hydrateTo.targetBranch",
    ),
)

UNSET: tuple[Flag, ...] = (
    _flag(
        "--parameter -p",
        "Helm parameter by name.",
        ".helm.parameters",
        special="by_name",
        many=True,
    ),
    _flag("--values", "Value file.", ".helm.valueFiles", many=True),
    _flag("--values-literal", "The inline values.", special="values", switch=True),
    _flag("--nameprefix", "Kustomize name prefix.", ".kustomize.namePrefix", switch=True),
    _flag("--namesuffix", "Kustomize name suffix.", ".kustomize.nameSuffix", switch=True),
    _flag("--kustomize-version", "Version of Kustomize.", ".kustomize.version", switch=True),
    _flag("--kustomize-namespace", "Kustomize namespace.", ".kustomize.namespace", switch=True),
    _flag("--kustomize-image", "Image by name.", ".kustomize.images", special="image", many=True),
    _flag(
        "--kustomize-replica",
        "Replica count by name.",
        ".kustomize.replicas",
        special="by_name",
        many=True,
    ),
    _flag(
        "--ignore-missing-value-files", "The switch.", ".helm.ignoreMissingValueFiles", switch=True
    ),
    _flag(
        "--ignore-missing-components",
        "The switch.",
        ".kustomize.ignoreMissingComponents",
        switch=True,
    ),
    _flag(
        "--plugin-env",
        "Variable of the plugin by name.",
        ".plugin.env",
        special="by_name",
        many=True,
    ),
    _flag("--pass-credentials", "The switch.", ".helm.passCredentials", switch=True),
    _flag("--ref", "The name for other sources.", ".ref", switch=True),
)


def pair(text: str, flag: str) -> tuple[str, str]:
    """Return the parts of name=value.

    Raises: Problem naming the flag.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Problem(f"{flag} {text}: write name=value")
    return name, value


def source_of(spec: Spec, position: int = 0, name: str = "") -> Spec:
    """Return the source that flags change. `position` counts from 1; 0 means the only source.

    Raises: Problem when the application has several and none is chosen, or the position does not
        exist.
    """
    several = spec.get("sources")
    if not isinstance(several, list) or not several:
        if position > 1:
            raise Problem(f"--source-position {position}: the application has one source")
        found: Spec = spec.setdefault("source", {})
        return found
    if name:
        chosen = [s for s in several if s.get("name") == name]
        if not chosen:
            raise Problem(f"--source-name {name}: no source is called so")
        return dict_of(chosen[0])
    if len(several) == 1 and position in (0, 1):
        return dict_of(several[0])
    if not 1 <= position <= len(several):
        raise Problem(
            f"--source-position must be 1 to {len(several)}: the application has several sources"
        )
    return dict_of(several[position - 1])


def dict_of(value: Any) -> Spec:
    """Return a nested object, which the caller changes in place.

    Raises: Problem when the value is not an object.
    """
    if not isinstance(value, dict):
        raise Problem("the application's spec has a source that is not an object")
    return value


def apply(
    spec: Spec,
    given: Mapping[str, Any],
    *,
    position: int = 0,
    name: str = "",
    read: Callable[[str], str] = str,
) -> Spec:
    """Change a spec as flags say.

    Shapes: `given` maps keys of flags to their values, None if not given; `read` returns the text
        of a local file.
    """
    source: Spec | None = None
    for flag in FLAGS:
        value = given.get(flag.key)
        if value is None or (flag.many and not value):
            continue
        if flag.special == "ignored":
            unsupported.note(
                flag.names[0], True, "the tool that it was for does not exist any more"
            )
            continue
        about_source = flag.to.startswith(".") or flag.special not in (
            "",
            "policy",
            "option",
        )
        if about_source and source is None:
            source = source_of(spec, position, name)
        _apply_one(spec, source if source is not None else {}, flag, value, read)
    if given.get("dest_name"):
        (spec.get("destination") or {}).pop("server", None)
    elif given.get("dest_server"):
        (spec.get("destination") or {}).pop("name", None)
    if given.get("helm_chart") and source is not None:
        source.pop("path", None)
    return spec


def _apply_one(
    spec: Spec, source: Spec, flag: Flag, value: Any, read: Callable[[str], str]
) -> None:
    place, field = _place(spec, source, flag.to) if flag.to else ({}, "")
    special = flag.special
    if special == "policy":
        _policy(spec, value)
    elif special == "option":
        _options(spec, value)
    elif special == "literal":
        source.setdefault("helm", {}).pop("valuesObject", None)
        source["helm"]["values"] = read(value)
    elif special in ("helm", "helm_string", "helm_file"):
        _parameters(source.setdefault("helm", {}), value, special, flag.names[0])
    elif special == "image":
        images = source.setdefault("kustomize", {}).setdefault("images", [])
        for image in value:
            images[:] = [i for i in images if _image_name(i) != _image_name(image)] + [image]
    elif special == "replica":
        _replicas(source.setdefault("kustomize", {}), value, flag.names[0])
    elif special == "map":
        place.setdefault(field, {}).update(dict(pair(v, flag.names[0]) for v in value))
    elif special in ("jsonnet", "jsonnet_code", "env"):
        entries = place.setdefault(field, [])
        for text in value:
            key, text_value = pair(text, flag.names[0])
            entries[:] = [e for e in entries if e.get("name") != key] + [
                {
                    "name": key,
                    "value": text_value,
                    **({"code": True} if special == "jsonnet_code" else {}),
                }
            ]
    elif flag.switch and not value:
        place.pop(field, None)
    else:
        place[field] = list(value) if flag.many else value


def _place(spec: Spec, source: Spec, to: str) -> tuple[Spec, str]:
    root = source if to.startswith(".") else spec
    *steps, field = to.lstrip(".").split(".")
    for step in steps:
        if step == "automated" and root.get("automated") is None:
            raise Problem(
                "--auto-prune, --self-heal and --allow-empty need automated sync: "
                "give --sync-policy automated"
            )
        root = root.setdefault(step, {})
    return root, field


def _policy(spec: Spec, value: str) -> None:
    if value.lower() not in _POLICIES:
        raise Problem(f"--sync-policy {value}: none or automated")
    policy = spec.setdefault("syncPolicy", {})
    if _POLICIES[value.lower()] is None:
        policy.pop("automated", None)
    else:
        policy["automated"] = policy.get("automated") or {}
        policy["automated"].pop("enabled", None)


def _options(spec: Spec, given: Sequence[str]) -> None:
    options = spec.setdefault("syncPolicy", {}).setdefault("syncOptions", [])
    for text in given:
        wanted, off = text.removeprefix("!"), text.startswith("!")
        options[:] = [
            o
            for o in options
            if o != wanted and (off or o.partition("=")[0] != wanted.partition("=")[0])
        ]
        if not off:
            options.append(wanted)


def _parameters(helm: Spec, given: Sequence[str], how: str, flag: str) -> None:
    field = "fileParameters" if how == "helm_file" else "parameters"
    entries = helm.setdefault(field, [])
    for text in given:
        name, value = pair(text, flag)
        entry = {"name": name, "path" if how == "helm_file" else "value": value}
        entries[:] = [e for e in entries if e.get("name") != name] + [
            {**entry, **({"forceString": True} if how == "helm_string" else {})}
        ]


def _image_name(image: str) -> str:
    if "=" in image:
        return image.partition("=")[0]
    bare = image.partition("@")[0]
    head, _, tail = bare.rpartition("/")
    return (f"{head}/" if head else "") + tail.partition(":")[0]


def _replicas(kustomize: Spec, given: Sequence[str], flag: str) -> None:
    entries = kustomize.setdefault("replicas", [])
    for text in given:
        name, count = pair(text, flag)
        if not count.isdigit():
            raise Problem(f"{flag} {text}: the count must be a whole number")
        entries[:] = [e for e in entries if e.get("name") != name] + [
            {"name": name, "count": int(count)}
        ]


def unset(spec: Spec, given: Mapping[str, Any], *, position: int = 0, name: str = "") -> Spec:
    """Remove from a spec what flags name."""
    source = source_of(spec, position, name)
    for flag in UNSET:
        value = given.get(flag.key)
        if not value:
            continue
        if flag.special == "values":
            for field in ("values", "valuesObject"):
                (source.get("helm") or {}).pop(field, None)
            continue
        *steps, field = flag.to.lstrip(".").split(".")
        place = source
        for step in steps:
            place = place.get(step) or {}
        if flag.switch:
            place.pop(field, None)
        elif flag.special == "by_name":
            place[field] = [e for e in place.get(field) or [] if e.get("name") not in value]
        elif flag.special == "image":
            place[field] = [
                i
                for i in place.get(field) or []
                if _image_name(i) not in [_image_name(v) for v in value]
            ]
        else:
            place[field] = [v for v in place.get(field) or [] if v not in value]
    cleaned: Spec = _without_empty(spec)
    return cleaned


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without_empty(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in ([], {}) or k == "automated"}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value


def patched(text: str, kind: str) -> str:
    """Return a patch in the hub's form, checked.

    Raises: Problem when it cannot be read.
    """
    import yaml

    if kind not in ("json", "merge"):
        raise Problem(f"--type {kind}: json or merge")
    try:
        parsed = json.loads(text)
    except ValueError:
        try:
            parsed = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Problem(f"--patch is neither JSON nor YAML: {error}") from error
    if kind == "json" and not isinstance(parsed, list):
        raise Problem("--patch of type json must be a list of operations")
    return json.dumps(parsed)
