"""What generators read: the clusters of the hub and the trees of repositories."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from appsets.generators import ClusterFacts, GeneratorError
from clusters.models import Cluster
from hub.engine.permits import permits_source
from projects import sources
from projects.models import Project
from projects.sources.files import Recorder

MOST_BYTES = 1_000_000


class Inputs:
    """One look at the world for one run of a set; every input is read once.

    Shapes: what a server says of its refs must be newer than `since`.
    """

    def __init__(self, project: Project, since: datetime) -> None:
        self._project, self._since = project, since
        self._trees: dict[tuple[str, str], Recorder] = {}
        self._paths: dict[tuple[str, str], list[str]] = {}

    def clusters(self) -> Sequence[ClusterFacts]:
        """Return every registered cluster that is not another project's own."""
        rows = Cluster.objects.filter(project__in=["", self._project.name]).order_by("name")
        if self._project.spec.get("permitOnlyProjectScopedClusters"):
            rows = rows.filter(project=self._project.name)
        found = rows.only("name", "server", "project", "labels", "annotations")
        return [ClusterFacts(c.name, c.server, c.project, c.labels, c.annotations) for c in found]

    def paths(self, url: str, revision: str) -> Sequence[str]:
        """Return the paths of all files of a revision."""
        key = (url, revision)
        if key not in self._paths:
            self._paths[key] = list(self._tree(url, revision).walk(""))
        return self._paths[key]

    def read(self, url: str, revision: str, path: str) -> bytes:
        """Return a file of a revision.

        Raises: GeneratorError when it is missing or larger than a file of parameters may be.
        """
        data = self._tree(url, revision).read(path)
        if data is None:
            raise GeneratorError(f"{path}: no such file")
        if len(data) > MOST_BYTES:
            raise GeneratorError(f"{path}: larger than {MOST_BYTES:,} bytes")
        return data

    def ask(self, kind: str, spec: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """Refuse: generators that ask hosts are refused when a set is written."""
        del spec
        raise GeneratorError(f"the generator {kind} is not served by this hub")

    def _tree(self, url: str, revision: str) -> Recorder:
        key = (url, revision)
        if key not in self._trees:
            if not permits_source(self._project.spec, url):
                raise GeneratorError(f"project '{self._project.name}' does not permit repository {url}")  # fmt: skip
            source = {"repoURL": url, "path": ".", "targetRevision": revision}
            commit = sources.resolve(source, self._project.name, force=True, since=self._since)
            self._trees[key] = Recorder({"": sources.files_of(source, commit, self._project.name)})
        return self._trees[key]
