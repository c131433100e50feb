"""The index of a Helm repository: of all that it says only what a version is called and where its file is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hub.engine.errors import ManifestError, Stalled
from hub.engine.kubernetes_yaml import parse_yaml

_LONGEST_VERSION = 256
_LONGEST_URL = 8192
_OVERHEAD = 200
"""Bytes that a version takes beside its texts."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a chart; `url` is empty when the index names no file for it."""

    version: str
    url: str


@dataclass(frozen=True, slots=True)
class Index:
    """What a repository has: chart name → its versions, None where those are no list."""

    repository: str
    charts: Mapping[str, tuple[Release, ...] | None]

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        listed = [release for found in self.charts.values() for release in found or ()]
        texts = sum(len(release.version) + len(release.url) for release in listed)
        names = sum(len(name) for name in self.charts)
        return texts + names + _OVERHEAD * (len(listed) + len(self.charts))

    def facts(self) -> Iterator[str]:
        """Yield what applications may read of it: each chart with its versions."""
        for chart, found in self.charts.items():
            yield from (f"{chart}\n{release.version}" for release in found or ())

    def releases(self, chart: str) -> tuple[Release, ...]:
        """Return the versions of a chart that can be read.

        Raises: Stalled when there is none, ManifestError when what is there is no list.
        """
        found = self.charts.get(chart, ())
        if found is None:
            raise ManifestError(
                f"the index of {self.repository}: entries.{chart} is no list of versions"
            )
        if not found:
            raise Stalled("ChartNotFound", f"chart '{chart}' not found in {self.repository}")
        return found

    def file_of(self, chart: str, version: str) -> str:
        """Return where the index says that the file of a version is.

        Raises: Stalled when the version is not there, ManifestError when it has no file.
        """
        listed = self.charts.get(chart) or ()
        found = next((r for r in listed if r.version == version), None) or next(
            (r for r in listed if r.version.lstrip("v") == version.lstrip("v")), None
        )
        if found is None:
            raise Stalled(
                "RevisionNotFound",
                f"chart '{chart}' of version '{version}' not found in {self.repository}",
            )
        if not found.url:
            raise ManifestError(
                f"the index of {self.repository} names no file for {chart} {version}"
            )
        return found.url


def read_index(data: bytes, repository: str) -> Index:
    """Return what an index says; `repository` is how errors call it.

    An entry that cannot be read is left out, as by Helm: it is an error of nobody who asks for another.
    Raises: ManifestError when it is no index.
    """
    try:
        documents = parse_yaml(data.decode())
    except (ManifestError, UnicodeDecodeError) as error:
        raise ManifestError(f"the index of {repository} cannot be read: {error}") from error
    entries = documents[0].get("entries") if documents and isinstance(documents[0], dict) else None
    if not isinstance(entries, dict):
        raise ManifestError(f"{repository} is no Helm repository: its index has no entries")
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
        # Written without quotes, 1.10 is a number already: what Helm makes of it as well.
        version = repr(version)
    if not isinstance(version, str) or not 0 < len(version) <= _LONGEST_VERSION:
        return None
    urls = entry.get("urls")
    url = urls[0] if isinstance(urls, list) and urls else ""
    return Release(version, url if isinstance(url, str) and len(url) <= _LONGEST_URL else "")
