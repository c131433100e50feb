"""Parse the index of a Helm repository into chart versions and file URLs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hub.engine.errors import ManifestError, Stalled
from hub.engine.kubernetes_yaml import parse_yaml

_LONGEST_VERSION = 256
_LONGEST_URL = 8192
_OVERHEAD = 200
"""The approximate memory overhead of a version, in bytes."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a chart; `url` is empty if the index has none."""

    version: str
    url: str


@dataclass(frozen=True, slots=True)
class Index:
    """The versions of each chart of a repository, None for a malformed entry."""

    repository: str
    charts: Mapping[str, tuple[Release, ...] | None]

    @property
    def size(self) -> int:
        """The approximate memory use, in bytes."""
        listed = [release for found in self.charts.values() for release in found or ()]
        texts = sum(len(release.version) + len(release.url) for release in listed)
        names = sum(len(name) for name in self.charts)
        return texts + names + _OVERHEAD * (len(listed) + len(self.charts))

    def facts(self) -> Iterator[str]:
        """Yield each chart and version as text, to detect changes."""
        for chart, found in self.charts.items():
            yield from (f"{chart}\n{release.version}" for release in found or ())

    def releases(self, chart: str) -> tuple[Release, ...]:
        """Return the versions of a chart.

        Raises: Stalled if there are none, ManifestError if the entry is malformed.
        """
        found = self.charts.get(chart, ())
        if found is None:
            raise ManifestError(
                f"the index of {self.repository}: entries.{chart} must be a list of versions"
            )
        if not found:
            raise Stalled("ChartNotFound", f"chart '{chart}' not found in {self.repository}")
        return found

    def file_of(self, chart: str, version: str) -> str:
        """Return the URL of a version's file.

        Raises: Stalled if the version does not exist, ManifestError if it has no file.
        """
        listed = self.charts.get(chart) or ()
        found = next((r for r in listed if r.version == version), None) or next(
            (r for r in listed if r.version.lstrip("v") == version.lstrip("v")), None
        )
        if found is None:
            raise Stalled(
                "RevisionNotFound",
                f"version '{version}' of chart '{chart}' not found in {self.repository}",
            )
        if not found.url:
            raise ManifestError(f"the index of {self.repository} has no URL for {chart} {version}")
        return found.url


def read_index(data: bytes, repository: str) -> Index:
    """Parse an index; `repository` names it in errors.

    Malformed versions are ignored, as in Helm, since they do not affect other charts.
    Raises: ManifestError if it is not an index.
    """
    try:
        documents = parse_yaml(data.decode())
    except (ManifestError, UnicodeDecodeError) as error:
        raise ManifestError(f"the index of {repository} is invalid: {error}") from error
    entries = documents[0].get("entries") if documents and isinstance(documents[0], dict) else None
    if not isinstance(entries, dict):
        raise ManifestError(f"{repository} is not a Helm repository: its index has no entries")
    return Index(repository, {name: _releases(listed) for name, listed in entries.items()})


def _releases(listed: Any) -> tuple[Release, ...] | None:
    if listed is None:
        return ()
    if not isinstance(listed, list):
        return None
    found = (_release(entry) for entry in listed)
    return tuple(release for release in found if release is not None)


def _release(entry: Any) -> Release | None:
    version = entry.get("version") if isinstance(entry, dict) else None
    if isinstance(version, int | float) and not isinstance(version, bool):
        # Without quotes, 1.10 is the number 1.1, in Helm as well.
        version = repr(version)
    if not isinstance(version, str) or not 0 < len(version) <= _LONGEST_VERSION:
        return None
    urls = entry.get("urls")
    url = urls[0] if isinstance(urls, list) and urls else ""
    return Release(version, url if isinstance(url, str) and len(url) <= _LONGEST_URL else "")
