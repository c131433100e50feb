"""Fetch the parameters of the generators that a host answers: one entry for each of `HOSTED`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from appsets.generators.base import ClusterFacts, Params
from appsets.scm import cluster_decision, listing, plugin
from appsets.scm.credentials import Keys


class Request(NamedTuple):
    """A generator to fetch parameters for."""

    block: Mapping[str, Any]
    keys: Keys
    set_name: str
    before: Sequence[Mapping[str, Any]]
    """The previous parameters of the host."""
    clusters: Callable[[], Sequence[ClusterFacts]]


class Fetcher(NamedTuple):
    """Checks a block, and performs the request that it describes."""

    check: Callable[[Mapping[str, Any], str], object]
    """Raises GeneratorError naming the invalid field."""
    fetch: Callable[[Request], list[Params]]
    """Raises GeneratorError, HostError; RetryLater or Stalled for a cluster."""
    sends_set_name: bool = False
    """Whether sets of different names may receive different parameters."""


FETCHERS: dict[str, Fetcher] = {
    "scmProvider": Fetcher(
        partial(listing.check_block, "scmProvider"),
        lambda request: listing.repositories(request.block, request.keys),
    ),
    "pullRequest": Fetcher(
        partial(listing.check_block, "pullRequest"),
        lambda request: listing.pulls(request.block, request.keys, request.before),
    ),
    "plugin": Fetcher(
        plugin.check_plugin,
        lambda request: plugin.plugin(request.block, request.keys, request.set_name),
        sends_set_name=True,
    ),
    "clusterDecisionResource": Fetcher(
        cluster_decision.check_decision,
        lambda request: cluster_decision.decisions(request.block, request.keys, request.clusters()),
    ),
}
