"""The inputs of generators: clusters, files of repositories and artifacts, answers of hosts."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.utils import timezone

from appsets.generators.base import ClusterFacts
from appsets.generators.errors import GeneratorError
from appsets.generators.spec_queries import interval
from appsets.models import ApplicationSet, GeneratorAnswer
from appsets.scm.credentials import Keys
from appsets.scm.fetchers import FETCHERS, Request
from clusters.models import Cluster
from hub.engine.errors import EngineError, Invalid, RetryLater, Stalled
from hub.engine.project_restrictions import permits_source, reaches_cluster
from projects import sources
from projects.models import Project
from projects.sources.files import Recorder

MAX_BYTES = 1_000_000
MAX_TOTAL_BYTES = 64_000_000


class Inputs:
    """Reads the inputs of one reconciliation of a set, each of them once.

    Shapes: refs that were fetched before `since` are fetched again; `notes` names the hosts whose
        last good answer is used because a newer request failed.
    """

    def __init__(self, project: Project, since: datetime, row: ApplicationSet) -> None:
        self._project, self._since, self._row = project, since, row
        self._keys = Keys(row.namespace, project.name)
        self.notes: list[str] = []
        self._bytes = 0
        self.has_no_pulls = False
        self.withheld: list[str] = []
        """Clusters that a generator could select but the project has no destination in."""
        self._trees: dict[tuple[str, str], Recorder] = {}
        self._paths: dict[tuple[str, str], list[str]] = {}

    def clusters(self) -> Sequence[ClusterFacts]:
        """Return every registered cluster that the project has a destination in.

        Clusters of other projects are left out: the authors of this project's sets may not see
        their names, labels and annotations.
        """
        rows = Cluster.objects.filter(project__in=["", self._project.name]).order_by("name")
        if self._project.spec.get("permitOnlyProjectScopedClusters"):
            rows = rows.filter(project=self._project.name)
        found = list(rows.only("name", "server", "project", "labels", "annotations"))
        spec = self._project.spec
        reached = [c for c in found if reaches_cluster(spec, c.server, c.name)]
        seen = {c.name for c in reached}
        self.withheld = sorted({c.name for c in found} - seen)
        return [ClusterFacts(c.name, c.server, c.project, c.labels, c.annotations) for c in reached]

    def paths(self, url: str, revision: str) -> Sequence[str]:
        """Return the paths of all files of a revision."""
        key = (url, revision)
        if key not in self._paths:
            self._paths[key] = list(self._tree(url, revision).walk(""))
        return self._paths[key]

    def read(self, url: str, revision: str, path: str) -> bytes:
        """Return a file of a revision.

        Raises: GeneratorError if the file is missing or too large.
        """
        data = self._tree(url, revision).read(path)
        if data is None:
            raise GeneratorError(f"{path}: no such file")
        if len(data) > MAX_BYTES:
            raise GeneratorError(f"{path}: larger than {MAX_BYTES:,} bytes")
        self._bytes += len(data)
        if self._bytes > MAX_TOTAL_BYTES:
            raise GeneratorError(
                f"the files of parameters are larger than {MAX_TOTAL_BYTES:,} bytes together"
            )
        return data

    def fetch_parameters(self, kind: str, spec: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """Return the parameters that a host returns for a generator.

        The host is polled again after the generator's interval; if a request fails, its last good
        answer is used.
        Raises: GeneratorError and others if no request has succeeded yet.
        """
        found = self._answer(kind, spec)
        self.has_no_pulls |= kind == "pullRequest" and not found
        return found

    def _answer(self, kind: str, spec: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        now, key = timezone.now(), self._key(kind, spec)
        known = GeneratorAnswer.objects.filter(key=key).first()
        asked = max(known.at, known.failed_at or known.at) if known else None
        if (
            known
            and asked
            and not known.error
            and asked > self._row.refresh_at
            and now - known.at < timedelta(seconds=interval(kind, spec))
        ):
            return self._noted(kind, known)
        try:
            found = self._fetch_parameters(kind, spec, known.params if known else [])
        except (GeneratorError, RetryLater, Stalled, EngineError, Invalid) as error:
            if known is None:
                raise
            known.error, known.failed_at = str(error)[:2000], now
            GeneratorAnswer.objects.filter(pk=known.pk).update(error=known.error, failed_at=now)
            return self._noted(kind, known)
        GeneratorAnswer.objects.update_or_create(
            key=key, defaults={"params": found, "at": now, "error": "", "failed_at": None}
        )
        return found

    def _noted(self, kind: str, known: GeneratorAnswer) -> Sequence[dict[str, Any]]:
        if known.error:
            self.notes.append(
                f"{kind}: using the response of {known.at:%Y-%m-%d %H:%M} UTC, "
                f"since there is no newer one: {known.error}"
            )
        found: Sequence[dict[str, Any]] = known.params
        return found

    def _fetch_parameters(
        self, kind: str, spec: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        request = Request(spec, self._keys, self._row.name, before, self.clusters)
        return FETCHERS[kind].fetch(request)

    def _key(self, kind: str, spec: Mapping[str, Any]) -> str:
        asked = {
            k: v for k, v in spec.items() if k not in ("template", "values", "requeueAfterSeconds")
        }
        owner = [
            self._project.name,
            self._row.namespace,
            self._row.name if FETCHERS[kind].sends_set_name else "",
        ]
        return hashlib.sha256(
            orjson.dumps([kind, owner, asked], option=orjson.OPT_SORT_KEYS)
        ).hexdigest()

    def _tree(self, url: str, revision: str) -> Recorder:
        key = (url, revision)
        if key not in self._trees:
            if not permits_source(self._project.spec, url):
                raise GeneratorError(
                    f"project '{self._project.name}' does not permit repository {url}"
                )
            source = {"repoURL": url, "path": ".", "targetRevision": revision}
            commit = sources.resolve(source, self._project.name, force=True, since=self._since)
            self._trees[key] = Recorder({"": sources.files_of(source, commit, self._project.name)})
        return self._trees[key]
