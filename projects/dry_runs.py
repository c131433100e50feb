"""What API servers answer to dry runs: requested where a local comparison is in doubt, and kept for all processes.

An answer "applying changes nothing" holds while the manifest stays and nothing changes where the
two differ word for word; any other while nothing of the live resource changes.
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
ASK_AGAIN = timedelta(minutes=5)
"""So long a refusal is believed."""
KEPT = timedelta(days=30)
_FRESH = timedelta(minutes=10)
"""So long an answer spares a sync its own dry run."""
_MOST_ROWS = 6
"""Answers that are kept of one resource."""
_MOST_BODY = 256 * 1024
_INVALID = (400, 422)
_COMPARE_OPTIONS = "argocd.argoproj.io/compare-options"


class Mode(StrEnum):
    """When the API server is asked how a manifest would change a resource."""

    ALWAYS = "always"
    DOUBT = "doubt"
    NEVER = "never"


class Ask(StrEnum):
    """Whether one comparison may ask the API server."""

    ONCE = "once"
    """Where no earlier answer holds."""
    ANEW = "anew"
    """Also where one does."""
    NOT = "not"


def mode_of(manifest: Manifest, application: Application) -> Mode:
    """Return when to ask, by the annotations of the resource, of the application, and the hub's setting."""
    for words in (compare_options(manifest), _words(application)):
        if "ServerSideDiff=false" in words:
            return Mode.NEVER
        if words & {"ServerSideDiff", "ServerSideDiff=true"}:
            return Mode.ALWAYS
    named = {"true": Mode.ALWAYS, "false": Mode.NEVER}
    return named.get(settings.SERVER_SIDE_DIFF, Mode.DOUBT)


def counts_mutations(manifest: Manifest, application: Application) -> bool:
    """Return whether it is a difference what webhooks do to fields that the manifest does not state."""
    words = compare_options(manifest) | _words(application)
    return bool(words & {"IncludeMutationWebhook", "IncludeMutationWebhook=true"})


def _words(application: Application) -> set[str]:
    text = str(application.annotations.get(_COMPARE_OPTIONS, ""))
    return {word.strip() for word in text.split(",")}


@dataclass(frozen=True, slots=True)
class Question:
    """One resource whose local comparison left a doubt."""

    local: LocalComparison
    always: bool = False
    mutations: bool = False
    validate: bool = True

    @property
    def key(self) -> ResourceKey:
        """The resource."""
        return resource_key(self.local.wanted)

    @property
    def whole(self) -> str:
        """The digest of all that is live and counts."""
        return f"L{digest_of(self.local.live)}"

    @property
    def place(self) -> str:
        """The digest of what is live where it matters."""
        if self.always:
            return self.whole
        return f"{'m' if self.mutations else ''}{self.local.doubts_digest}"


@dataclass(frozen=True, slots=True)
class Settled:
    """A comparison, and what must be said of how it was made."""

    comparison: Comparison
    note: str = ""
    is_passing: bool = False
    """Whether asking again later may say more."""
    error: EngineError | None = None
    """Why the two sides could not be compared, as a rule that leaves out fields may."""


def settle(
    cluster: Cluster, user: str, questions: Sequence[Question], *, fresh: bool = False
) -> list[Settled]:
    """Return the comparisons of resources in doubt: by earlier answers, else by a dry run of each."""
    known = {} if fresh else _known(cluster, [q.key.text for q in questions])
    found: dict[int, Settled] = {}
    for number, question in enumerate(questions):
        row = _fitting(known.get(question.key.text, []), question, _asked(question, user))
        if row is not None:
            found[number] = _settled_by(row, question)
            DRY_RUN_CACHE.labels(cluster.server, "compare").inc()
    open_ = [n for n in range(len(questions)) if n not in found]
    rows = in_parallel([lambda n=n: _ask(cluster, user, questions[n]) for n in open_])
    for number, row in zip(open_, rows, strict=True):
        found[number] = _settled_by(row, questions[number])
    _keep(cluster, [row for row in rows if row.asked])
    return [found[number] for number in range(len(questions))]


def _asked(question: Question, user: str) -> str:
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
        if row.verdict == SAME and row.place == question.place:
            return row
        if row.place == question.whole and not _is_over(row):
            return row
    return None


def _is_over(row: DryRun) -> bool:
    return row.verdict == REFUSED and timezone.now() - row.at > ASK_AGAIN


def _settled_by(row: DryRun, question: Question) -> Settled:
    try:
        return _judged(row, question)
    except EngineError as error:
        return Settled(question.local.as_unchanged(), error=error)


def _judged(row: DryRun, question: Question) -> Settled:
    local = question.local
    if row.verdict == SAME:
        return Settled(local.as_unchanged())
    if row.verdict == DIFFERENT and row.body is not None:
        return Settled(local.with_dry_run(unpack(row.body), mutations=question.mutations))
    if row.verdict == DIFFERENT:
        return Settled(local.as_changed())
    if row.message.startswith(_REFUSED_AS_INVALID):
        return Settled(local.as_changed(), row.message, is_passing=True)
    return Settled(local.best_guess(), row.message, is_passing=True)


_REFUSED_AS_INVALID = "the API server does not take the manifest: "


def _ask(cluster: Cluster, user: str, question: Question) -> DryRun:
    """Return the answer of the API server as it is kept; nothing that is kept when it cannot be asked."""
    sent = question.local.wanted
    row = DryRun(
        cluster=cluster,
        resource=question.key.text,
        asked=_asked(question, user),
        place=question.whole,
    )
    try:
        answer = dry_run(cluster, user, sent, validate=question.validate, reason="compare")
    except Refused as refused:
        row.verdict, row.message = REFUSED, _words_of(secretless(refused, sent))
        return row
    except Unreachable as error:
        row.verdict, row.message = REFUSED, _without_answer(error.message)
        return row
    if answer is None:
        row.asked, row.verdict, row.message = "", REFUSED, _without_answer("its kind is not served")
    elif question.local.is_unchanged_by(answer, mutations=question.mutations):
        row.verdict, row.place = SAME, question.place
    else:
        row.verdict, row.body = DIFFERENT, _body(answer)
    return row


def _words_of(refused: Refused) -> str:
    if refused.status in _INVALID:
        return f"{_REFUSED_AS_INVALID}{refused.message}"[:1000]
    return _without_answer(f"{refused.status} {refused.message}")


def _without_answer(why: str) -> str:
    text = f"compared without the API server's answer, which gave none to a dry run: {why}"
    return text[:1000].replace("\0", "")


def _body(answer: Manifest) -> bytes | None:
    key = resource_key(answer)
    # Of a Secret only the verdict is kept: what it would be is told from Git and the live one.
    if (key.group, key.kind) == ("", "Secret"):
        return None
    packed = pack(with_metadata(answer, managedFields=None))
    return packed if len(packed) <= _MOST_BODY else None


def dry_run(
    cluster: Cluster, user: str, sent: Manifest, *, validate: bool, reason: str
) -> Manifest | None:
    """Return what applying a manifest would make of a resource, None when its kind is not served.

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
    """Return what so many may hold at once: the dry runs of one process leave a cluster room for syncs."""
    with _turns_lock:
        if cluster.pk not in _turns:
            _turns[cluster.pk] = threading.BoundedSemaphore(settings.KUBE_PARALLELISM)
        return _turns[cluster.pk]


def _keep(cluster: Cluster, rows: Sequence[DryRun]) -> None:
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
        old = [pk for pks in found.values() for pk in pks[_MOST_ROWS:]]
        if old:
            DryRun.objects.filter(pk__in=old).delete()


def learn(cluster: Cluster, user: str, local: LocalComparison, *, validate: bool) -> None:
    """Keep what a real apply has shown: its result is what applying the same again leaves as it is.

    `local` compares the manifest as it was sent at what the server answered.
    """
    if local.is_same:
        return
    question = Question(local, validate=validate)
    row = DryRun(
        cluster=cluster, resource=question.key.text, asked=_asked(question, user), verdict=SAME
    )
    row.place = question.place
    _keep(cluster, [row])


def accepted(
    cluster: Cluster, user: str, pairs: Mapping[ResourceKey, tuple[Manifest, Manifest | None, bool]]
) -> set[ResourceKey]:
    """Return the resources whose dry run was answered a moment ago, with nothing changed since.

    Shapes: of each resource the manifest as sent, what is live, and whether its fields are validated.
    """
    now, found = timezone.now(), set()
    known = _known(cluster, [key.text for key in pairs])
    for key, (sent, current, validate) in pairs.items():
        rows = known.get(key.text, [])
        if not rows or current is None:
            continue
        asked, whole = _digest(sent, user, validate=validate), f"L{digest_of(current)}"
        if any(_spares(row, asked, whole, now) for row in rows):
            found.add(key)
            DRY_RUN_CACHE.labels(cluster.server, "sync").inc()
    return found


def _spares(row: DryRun, asked: str, whole: str, now: datetime) -> bool:
    same = (row.asked, row.place, row.verdict) == (asked, whole, DIFFERENT)
    return same and now - row.at < _FRESH


def forget_old() -> None:
    """Drop what was answered long ago, and what is about resources that are gone."""
    DryRun.objects.filter(at__lt=timezone.now() - KEPT).delete()
    there = LiveResource.objects.filter(cluster=OuterRef("cluster"), key=OuterRef("resource"))
    DryRun.objects.exclude(Exists(there)).delete()


def in_parallel(calls: Sequence[Any]) -> list[Any]:
    """Return the results of calls, made at the same time as far as a cluster allows."""
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
