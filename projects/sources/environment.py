"""The build environment: variables for the parameters of a source."""

import re
from collections.abc import Mapping

from hub.engine.errors import ManifestError

MAX_GROWTH = 16_384
_VARIABLE = re.compile(r"\$(\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$NAME` and `${NAME}`; `$$` is a dollar sign, unknown variables are empty.

    Raises: ManifestError if the result is much longer.
    """
    left = MAX_GROWTH

    def value(match: re.Match[str]) -> str:
        nonlocal left
        if match.group(1) == "$":
            return "$"
        found = environment.get(match.group(2) or match.group(3), "")
        left -= max(0, len(found) - len(match.group()))
        if left < 0:
            raise ManifestError(f"{text[:60]!r}: variables add more than {MAX_GROWTH:,} characters")
        return found

    return _VARIABLE.sub(value, text)


def build_environment(
    instance: str, namespace: str, project: str, revision: str, source: Mapping[str, object]
) -> dict[str, str]:
    """Return Argo CD's ARGOCD_APP_* variables for a source."""
    return {
        "ARGOCD_APP_NAME": instance,
        "ARGOCD_APP_NAMESPACE": namespace,
        "ARGOCD_APP_PROJECT_NAME": project,
        "ARGOCD_APP_REVISION": revision,
        "ARGOCD_APP_REVISION_SHORT": revision[:7],
        "ARGOCD_APP_REVISION_SHORT_8": revision[:8],
        "ARGOCD_APP_SOURCE_PATH": str(source.get("path") or ""),
        "ARGOCD_APP_SOURCE_REPO_URL": str(source.get("repoURL") or ""),
        "ARGOCD_APP_SOURCE_TARGET_REVISION": str(source.get("targetRevision") or ""),
    }
