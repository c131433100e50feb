"""Render an application from the template of a set and one set of parameters."""

from collections.abc import Mapping
from typing import Any

from appsets.template import evaluate, fast
from appsets.template.limits import count_written
from appsets.template.syntax import TemplateError
from hub.engine.errors import ManifestError
from hub.engine.kubernetes_yaml import parse_yaml

Params = Mapping[str, Any]
FINALIZER = "resources-finalizer.argocd.argoproj.io"
_MISSING = {
    "missingkey=default": "default",
    "missingkey=invalid": "invalid",
    "missingkey=zero": "zero",
    "missingkey=error": "error",
}


def missing_of(options: list[str]) -> str:
    """Return the mode of missing keys of goTemplateOptions.

    Raises: TemplateError for an unknown option.
    """
    found = "default"
    for option in options:
        if option not in _MISSING:
            raise TemplateError(f"goTemplateOptions: {option!r} is none of {', '.join(_MISSING)}")
        found = _MISSING[option]
    return found


def render_text(text: str, params: Params, *, go: bool, missing: str = "default") -> str:
    """Return a rendered text."""
    if "{{" not in text:
        return text
    return count_written(
        evaluate.render(text, params, missing=missing) if go else fast.render(text, params)
    )


def render_value(
    value: Any, params: Params, *, go: bool, missing: str = "default", where: str = ""
) -> Any:
    """Return a JSON value with every text and key rendered, each by itself.

    Raises: TemplateError naming the field.
    """
    if isinstance(value, str):
        try:
            return render_text(value, params, go=go, missing=missing)
        except TemplateError as error:
            raise TemplateError(f"{where or 'the template'}: {error}") from error
    if isinstance(value, list):
        return [
            render_value(v, params, go=go, missing=missing, where=f"{where}[{n}]")
            for n, v in enumerate(value)
        ]
    if isinstance(value, Mapping):
        return {
            render_text(k, params, go=go, missing=missing): render_value(
                v, params, go=go, missing=missing, where=f"{where}.{k}" if where else k
            )
            for k, v in value.items()
        }
    return value


def application_from(
    spec: Mapping[str, Any], template: Mapping[str, Any], params: Params
) -> dict[str, Any]:
    """Return the application of a template and parameters, with `templatePatch` applied.

    Shapes: `{metadata: {name, labels, annotations, finalizers}, spec}`; `spec` is the set's.
    Raises: TemplateError naming the field.
    """
    go, missing = (
        bool(spec.get("goTemplate")),
        missing_of(list(spec.get("goTemplateOptions") or [])),
    )
    made = (
        render_value(dict(template), params, go=go, missing=missing) if params else dict(template)
    )
    if not all(isinstance(made.get(f) or {}, Mapping) for f in ("metadata", "spec")):
        raise TemplateError("the template's metadata and spec must be objects")
    metadata = {
        k: v
        for k, v in (made.get("metadata") or {}).items()
        if k in ("name", "namespace", "labels", "annotations", "finalizers") and v
    }
    made = {"metadata": metadata, "spec": made.get("spec") or {}}
    keeps = bool((spec.get("syncPolicy") or {}).get("preserveResourcesOnDeletion"))
    if params and not keeps and not metadata.get("finalizers"):
        metadata["finalizers"] = [FINALIZER]
    patch = spec.get("templatePatch")
    return _patched(made, patch, params, go=go, missing=missing) if patch else made


def _patched(
    made: dict[str, Any], patch: Any, params: Params, *, go: bool, missing: str
) -> dict[str, Any]:
    if not isinstance(patch, str):
        raise TemplateError("templatePatch must be text")
    try:
        text = render_text(patch, params, go=go, missing=missing)
        documents = parse_yaml(text) if text.strip() else [{}]
    except (TemplateError, ManifestError) as error:
        raise TemplateError(f"invalid templatePatch: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise TemplateError("invalid templatePatch: it must be one object")
    result: dict[str, Any] = _merged(made, documents[0])
    if not all(isinstance(result.get(f), Mapping) for f in ("metadata", "spec")):
        raise TemplateError("invalid templatePatch: metadata and spec must be objects")
    # A patch that moves an application to another project is undone, as in Argo CD.
    project = made["spec"].get("project")
    return {
        **result,
        "spec": {**result.get("spec", {}), **({"project": project} if project else {})},
    }


def _merged(base: Any, patch: Any) -> Any:
    # No list of an Application has a merge key, so a strategic merge replaces lists.
    if not isinstance(patch, Mapping):
        return patch
    result = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
