"""The generators of application sets. A new one is an entry here.

A generator whose parameters a host returns also has a fetcher in `appsets.scm.fetchers`.
"""

from appsets.generators.base import Generator, Input
from appsets.generators.clusters import CLUSTERS
from appsets.generators.combined import MATRIX, MERGE
from appsets.generators.elements import LIST
from appsets.generators.git import GIT, OCI
from appsets.generators.hosted import CLUSTER_DECISION, PLUGIN, PULL_REQUEST, SCM_PROVIDER

GENERATORS: dict[str, Generator] = {
    generator.name: generator
    for generator in (
        LIST,
        CLUSTERS,
        GIT,
        OCI,
        MATRIX,
        MERGE,
        SCM_PROVIDER,
        PULL_REQUEST,
        PLUGIN,
        CLUSTER_DECISION,
    )
}
HOSTED = tuple(g.name for g in GENERATORS.values() if Input.HOST in g.inputs)
