"""Dry runs on API servers, for resources whose local comparison is in doubt.

Answers are cached in the database for all processes. The answer "applying changes nothing" holds
while the manifest and the fields that differ stay the same; any other answer holds while the
whole live resource stays the same.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Exists, OuterRef
from django.utils import timezone

from clusters.kinds import Refused
from clusters.kube import Unreachable, connect, kind_of, secretless
from clusters.live import digest_of
from clusters.models import Cluster, DryRun, LiveResource, pack, unpack
from hub.base.metrics import DRY_RUN_CACHE, DRY_RUNS
from hub.engine.diff import Comparison, LocalComparison
from hub.engine.errors import EngineError
from hub.engine.resource import Manifest, ResourceKey, resource_key, with_metadata
from hub.engine.secret_masking import digest_of as digest_of_value
from hub.engine.sync_options import compare_options
from projects.models import Application

SAME, DIFFERENT, REFUSED = "same", "different", "refused"
RETRY_REFUSED_AFTER = timedelta(minutes=5)
"""The period for which a refusal is cached."""
RETENTION = timedelta(days=30)
_RECENT = timedelta(minutes=10)
"""The maximum age of an answer that replaces the dry run of a sync."""
_MAX_ROWS = 6
"""The maximum number of stored answers per resource."""
_MAX_BODY_BYTES = 256 * 1024
_INVALID = (400, 422)
_COMPARE_OPTIONS = "argocd.argoproj.io/compare-options"


class Mode(StrEnum):
    """When a comparison requests a dry run from the API server."""

    ALWAYS = "always"
    DOUBT = "doubt"
    NEVER = "never"


class DryRunUse(StrEnum):
    """Whether one comparison may request dry runs."""

    REUSE = "reuse"
    """Only where no cached answer holds."""
    FRESH = "fresh"
    """For every resource in doubt, ignoring cached answers."""
    NEVER = "never"


def mode_of(manifest: Manifest, application: Application) -> Mode:
    """Return when to request a dry run: by the resource, the application, then the hub's setting.

    Source: Argo CD's compare option `ServerSideDiff`.
    """
    for words in (compare_options(manifest), _words(application)):
        if "ServerSideDiff=false" in words:
            return Mode.NEVER
        if words & {"ServerSideDiff", "ServerSideDiff=true"}:
            return Mode.ALWAYS
    named = {"true": Mode.ALWAYS, "false": Mode.NEVER}
    return named.get(settings.SERVER_SIDE_DIFF, Mode.DOUBT)


def counts_mutations(manifest: Manifest, application: Application) -> bool:
    """Return whether changes by mutating webhooks to fields that are not in the manifest count."""
    words = compare_options(manifest) | _words(application)
    return bool(words & {"IncludeMutationWebhook", "IncludeMutationWebhook=true"})


def _words(application: Application) -> set[str]:
    text = str(application.annotations.get(_COMPARE_OPTIONS, ""))
    return {word.strip() for word in text.split(",")}


@dataclass(frozen=True, slots=True)
class Question:
    """A resource whose local comparison is in doubt."""

    local: LocalComparison
    always: bool = False
    mutations: bool = False
    validate: bool = True

    @property
    def key(self) -> ResourceKey:
        """The resource."""
        return resource_key(self.local.wanted)

    @property
    def live_digest(self) -> str:
        """The digest of the live resource without ignored fields."""
        return f"L{digest_of(self.local.live)}"

    @property
    def doubts_digest(self) -> str:
        """The digest of the live fields that are in doubt."""
        if self.always:
            return self.live_digest
        return f"{'m' if self.mutations else ''}{self.local.doubts_digest}"


@dataclass(frozen=True, slots=True)
class Settled:
    """A final comparison, with a note if the API server gave no usable answer."""

    comparison: Comparison
    note: str = ""
    is_transient: bool = False
    """Whether a later dry run may give a better answer."""
    error: EngineError | None = None
    """Why the two sides could not be compared, such as an ignore rule that fails."""


def settle(
    cluster: Cluster, user: str, questions: Sequence[Question], *, fresh: bool = False
) -> list[Settled]:
    """Return the comparisons of resources in doubt, by cached answers or by a dry run of each."""
    known = {} if fresh else _known(cluster, [q.key.text for q in questions])
    found: dict[int, Settled] = {}
    for number, question in enumerate(questions):
        row = _fitting(known.get(question.key.text, []), question, _request_digest(question, user))
        if row is not None:
            found[number] = _settled_by(row, question)
            DRY_RUN_CACHE.labels(cluster.server, "compare").inc()
    open_ = [n for n in range(len(questions)) if n not in found]
    rows = in_parallel([lambda n=n: _request(cluster, user, questions[n]) for n in open_])
    for number, row in zip(open_, rows, strict=True):
        found[number] = _settled_by(row, questions[number])
    _store(cluster, [row for row in rows if row.asked])
    return [found[number] for number in range(len(questions))]


def _request_digest(question: Question, user: str) -> str:
    return _digest(question.local.wanted, user, validate=question.validate)


def _digest(sent: Manifest, user: str, *, validate: bool) -> str:
    return digest_of_value([sent, user, validate])


def _known(cluster: Cluster, resources: Sequence[str]) -> dict[str, list[DryRun]]:
    found: dict[str, list[DryRun]] = {}
    for start in range(0, len(resources), 500):
        some = resources[start : start + 500]
        for row in DryRun.objects.filter(cluster=cluster, resource__in=some).order_by("-at"):
            found.setdefault(row.resource, []).append(row)
    return found


def _fitting(rows: Iterable[DryRun], question: Question, asked: str) -> DryRun | None:
    for row in rows:
        if row.asked != asked:
            continue
        if row.verdict == SAME and row.place == question.doubts_digest:
            return row
        if row.place == question.live_digest and not _is_over(row):
            return row
    return None


def _is_over(row: DryRun) -> bool:
    return row.verdict == REFUSED and timezone.now() - row.at > RETRY_REFUSED_AFTER


def _settled_by(row: DryRun, question: Question) -> Settled:
    try:
        return _settled_from(row, question)
    except EngineError as error:
        return Settled(question.local.as_unchanged(), error=error)


def _settled_from(row: DryRun, question: Question) -> Settled:
    local = question.local
    if row.verdict == SAME:
        return Settled(local.as_unchanged())
    if row.verdict == DIFFERENT and row.body is not None:
        return Settled(local.with_dry_run(unpack(row.body), mutations=question.mutations))
    if row.verdict == DIFFERENT:
        return Settled(local.as_changed())
    if row.message.startswith(_REFUSED_AS_INVALID):
        return Settled(local.as_changed(), row.message, is_transient=True)
    return Settled(local.best_guess(), row.message, is_transient=True)


_REFUSED_AS_INVALID = "the API server rejects the manifest: "


def _request(cluster: Cluster, user: str, question: Question) -> DryRun:
    """Request a dry run and return the answer as a row; one with an empty `asked` is not stored."""
    sent = question.local.wanted
    row = DryRun(cluster=cluster, resource=question.key.text, place=question.live_digest)
    row.asked = _request_digest(question, user)
    try:
        answer = dry_run(cluster, user, sent, validate=question.validate, reason="compare")
    except Refused as refused:
        row.verdict, row.message = REFUSED, _refusal_text(secretless(refused, sent))
        return row
    except Unreachable as error:
        row.verdict, row.message = REFUSED, _without_answer(error.message)
        return row
    if answer is None:
        row.asked, row.verdict, row.message = "", REFUSED, _without_answer("its kind is not served")
    elif question.local.is_unchanged_by(answer, mutations=question.mutations):
        row.verdict, row.place = SAME, question.doubts_digest
    else:
        row.verdict, row.body = DIFFERENT, _body(answer)
    return row


def _refusal_text(refused: Refused) -> str:
    if refused.status in _INVALID:
        return f"{_REFUSED_AS_INVALID}{refused.message}"[:1000]
    return _without_answer(f"{refused.status} {refused.message}")


def _without_answer(why: str) -> str:
    text = f"compared without a dry run, because the API server did not answer it: {why}"
    return text[:1000].replace("\0", "")


def _body(answer: Manifest) -> bytes | None:
    key = resource_key(answer)
    # Of a Secret only the verdict is stored, never the values.
    if (key.group, key.kind) == ("", "Secret"):
        return None
    packed = pack(with_metadata(answer, managedFields=None))
    return packed if len(packed) <= _MAX_BODY_BYTES else None


def dry_run(
    cluster: Cluster, user: str, sent: Manifest, *, validate: bool, reason: str
) -> Manifest | None:
    """Return a resource as applying the manifest would leave it, None if its kind is not served.

    Raises: Refused, Unreachable.
    """
    connection = connect(cluster, user)
    kind = kind_of(connection, sent)
    if kind is None:
        return None
    with _turn(cluster):
        DRY_RUNS.labels(cluster.server, reason).inc()
        return connection.apply(kind, sent, dry_run=True, validate=validate)


_turns: dict[int, threading.BoundedSemaphore] = {}
_turns_lock = threading.Lock()


def _turn(cluster: Cluster) -> threading.BoundedSemaphore:
    """Return the semaphore that limits dry runs, so that a cluster has capacity left for syncs."""
    with _turns_lock:
        if cluster.pk not in _turns:
            _turns[cluster.pk] = threading.BoundedSemaphore(settings.KUBE_PARALLELISM)
        return _turns[cluster.pk]


def _store(cluster: Cluster, rows: Sequence[DryRun]) -> None:
    if not rows:
        return
    now = timezone.now()
    for row in rows:
        row.at = now
    unique = {(r.resource, r.asked, r.place): r for r in rows}
    DryRun.objects.bulk_create(
        unique.values(),
        update_conflicts=True,
        unique_fields=["cluster", "resource", "asked", "place"],
        update_fields=["verdict", "message", "body", "at"],
    )
    _prune(cluster, {row.resource for row in rows})


def _prune(cluster: Cluster, resources: set[str]) -> None:
    names = sorted(resources)
    for start in range(0, len(names), 500):
        found: dict[str, list[int]] = {}
        rows = DryRun.objects.filter(cluster=cluster, resource__in=names[start : start + 500])
        for resource, pk in rows.order_by("-at", "-pk").values_list("resource", "pk"):
            found.setdefault(resource, []).append(pk)
        old = [pk for pks in found.values() for pk in pks[_MAX_ROWS:]]
        if old:
            DryRun.objects.filter(pk__in=old).delete()


def learn(cluster: Cluster, user: str, local: LocalComparison, *, validate: bool) -> None:
    """Cache the result of a real apply: applying the same manifest again changes nothing.

    `local` compares the manifest as it was sent with the answer of the server.
    """
    if local.is_same:
        return
    question = Question(local, validate=validate)
    row = DryRun(
        cluster=cluster,
        resource=question.key.text,
        asked=_request_digest(question, user),
        verdict=SAME,
    )
    row.place = question.doubts_digest
    _store(cluster, [row])


def accepted(
    cluster: Cluster, user: str, pairs: Mapping[ResourceKey, tuple[Manifest, Manifest | None, bool]]
) -> set[ResourceKey]:
    """Return the resources with a recent successful dry run and no change since.

    Shapes: the manifest as sent, the live resource, and whether its fields are validated.
    """
    now, found = timezone.now(), set()
    known = _known(cluster, [key.text for key in pairs])
    for key, (sent, current, validate) in pairs.items():
        rows = known.get(key.text, [])
        if not rows or current is None:
            continue
        asked, whole = _digest(sent, user, validate=validate), f"L{digest_of(current)}"
        if any(_is_recent_pass(row, asked, whole, now) for row in rows):
            found.add(key)
            DRY_RUN_CACHE.labels(cluster.server, "sync").inc()
    return found


def _is_recent_pass(row: DryRun, asked: str, whole: str, now: datetime) -> bool:
    same = (row.asked, row.place, row.verdict) == (asked, whole, DIFFERENT)
    return same and now - row.at < _RECENT


def forget_old() -> None:
    """Delete answers that are old or whose resource is gone."""
    DryRun.objects.filter(at__lt=timezone.now() - RETENTION).delete()
    there = LiveResource.objects.filter(cluster=OuterRef("cluster"), key=OuterRef("resource"))
    DryRun.objects.exclude(Exists(there)).delete()


def in_parallel(calls: Sequence[Any]) -> list[Any]:
    """Return the results of calls, made in parallel within the limit of a cluster."""
    if len(calls) == 1:
        return [calls[0]()]
    if not calls:
        return []

    def call(function: Callable[[], Any]) -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=min(settings.KUBE_PARALLELISM, len(calls))) as pool:
        return list(pool.map(call, calls))
