"""The list of applications: filters with counts and order, in SQL, by the rights of the caller."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db.models import Case, Count, F, IntegerField, Q, TextField, Value, When
from django.db.models.functions import Cast
from django.http import QueryDict
from django.utils import timezone

from hub.access.decisions import Caller
from hub.engine.parsing import parse_digits
from projects.access.visibility import visible
from projects.models import DELAYED, ERRORS, Application, ApplicationQuerySet

PAGE = 50
MAX_VALUES = 6
HEALTH = ("Degraded", "Progressing", "Missing", "Unknown", "Suspended", "Healthy")
SYNC = ("OutOfSync", "Unknown", "Synced")
RUNNING = Q(operation__phase__in=["Running", "Terminating"])
_WAITING = RUNNING & Q(operation__message__startswith="waiting")
_OPERATIONS = {
    "running": RUNNING & ~Q(operation__message__startswith="waiting"),
    "waiting": _WAITING,
    "failed": Q(operation__phase__in=["Failed", "Error"]),
}
_AUTOMATED = Q(spec__syncPolicy__automated__isnull=False) & (
    Q(spec__syncPolicy__automated__enabled__isnull=True)
    | Q(spec__syncPolicy__automated__enabled=True)
)
VIEWS = ("table", "tiles", "summary")
MAX_COUNTED = 20_000
"""Labels are counted for at most this many applications."""
SORTS = {
    "": "Worst first",
    "name": "Name",
    "-changed": "Last change",
    "project": "Project",
    "cluster": "Cluster",
}
_COLUMNS = {
    "health": "health_status",
    "sync": "sync_status",
    "project": "project",
    "cluster": "cluster__name",
    "namespace": "dest_namespace",
    "set": "owner",
    "repository": "remotes__url",
}
_OPEN = ("health", "sync", "freshness", "operation", "project", "cluster")
TITLES = {
    "health": "Health",
    "sync": "Sync",
    "freshness": "Freshness",
    "operation": "Operation",
    "project": "Project",
    "cluster": "Cluster",
    "auto": "Auto-sync",
    "namespace": "Namespace",
    "set": "Set",
    "repository": "Repository",
}
_WORDS = {
    "current": "Current",
    "stale": "Stale",
    "running": "Running",
    "waiting": "Waiting",
    "failed": "Failed last",
    "on": "On",
    "off": "Off",
}


def stale(now: datetime) -> Q:
    """Return the condition that a status is stale, as `is_stale` decides it for one row."""
    limit = now - 2 * (settings.POLL_INTERVAL + settings.POLL_JITTER)
    unwatched = Q(cluster=None) | ~(
        Q(cluster__server="https://kubernetes.default.svc")
        | Q(cluster__is_synced=True, cluster__lease_until__gt=now)
    )
    is_pending = Q(refresh_at__isnull=False)
    doubtful = is_pending & (Q(comparison_digest="") | Q(conditions__icontains=DELAYED))
    for kind in ERRORS:
        doubtful |= Q(conditions__icontains=f'"{kind}"')
    unpolled = Q(remotes=None) | Q(remotes__checked_at=None) | ~Q(remotes__error="")
    unknown = doubtful | Q(refresh_at__lt=limit) | unwatched | unpolled
    return Q(reconciled_at__lt=limit) & (unknown | Q(remotes__checked_at__lt=limit))


def _condition(name: str, value: str, now: datetime) -> Q:
    if name in _COLUMNS:
        return Q(**{_COLUMNS[name]: None if value == "-" and name == "cluster" else value})
    if name == "operation":
        return _OPERATIONS.get(value, Q(pk__in=[]))
    if name == "auto":
        automated = Q(pk__in=Application.objects.filter(_AUTOMATED).values("pk"))
        return automated if value == "on" else ~automated
    old = Q(pk__in=Application.objects.filter(stale(now)).values("pk"))
    return old if value == "stale" else ~old


# Each word is a condition on every row.
_MAX_WORDS, _MAX_CHARACTERS = 10, 500


def _text(words: str, now: datetime) -> Q:
    """Return the condition of a search: words, and `key:value` for facets."""
    result = Q()
    for word in words[:_MAX_CHARACTERS].split()[:_MAX_WORDS]:
        key, colon, value = word.partition(":")
        if colon and key in TITLES and value:
            exact = next((v for v in (*HEALTH, *SYNC) if v.lower() == value.lower()), value)
            result &= _condition(key, exact, now)
            continue
        if colon and key == "label" and "=" in value:
            result &= _label(value)
            continue
        found = (
            Q(name__icontains=word)
            | Q(project__icontains=word)
            | Q(dest_namespace__icontains=word)
            | Q(cluster__name__icontains=word)
        )
        if re.fullmatch(r"[0-9a-f]{6,64}", word):
            found |= Q(revisions_text__contains=word)
        result &= found | Q(images_text__icontains=word)
    return result


def _label(text: str) -> Q:
    key, _, value = text.partition("=")
    # Django would read two underscores in a key as a path.
    is_key = re.fullmatch(r"[\w./-]+", key) and "__" not in key
    return Q(**{f"labels__{key}": value}) if is_key else Q(pk__in=[])


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a facet, with the number of applications that have it."""

    value: str
    word: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Facet:
    """One kind of filter."""

    name: str
    title: str
    values: list[Option]
    more: int
    is_open: bool
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The filters and options in a URL."""

    facets: Mapping[str, list[str]]
    labels: list[str]
    words: str
    sort: str
    view: str
    page: int
    favourites: bool
    now: datetime = field(default_factory=timezone.now)

    @property
    def is_filtered(self) -> bool:
        """Whether anything is left out."""
        return bool(self.facets or self.labels or self.words or self.favourites)

    @property
    def count(self) -> int:
        """How many filters there are."""
        return len(self.facets) + len(self.labels) + bool(self.words)


def chosen(params: QueryDict) -> Chosen:
    """Return the filters in a URL; invalid ones are ignored."""
    facets = {n: [v for v in params.getlist(n) if v][:50] for n in TITLES}
    page = params.get("page", "")
    return Chosen(
        {n: v for n, v in facets.items() if v},
        [x for x in params.getlist("label") if "=" in x][:10],
        params.get("q", "").strip()[:200],
        params.get("sort", "") if params.get("sort", "") in SORTS else "",
        next((v for v in VIEWS if v == params.get("view")), "table"),
        max(1, parse_digits(page, 6) or 1),
        params.get("favourites") == "1",
    )


class Listing:
    """The applications that a URL selects."""

    def __init__(
        self, caller: Caller, wanted: Chosen, base: ApplicationQuerySet | None = None
    ) -> None:
        self.caller, self.wanted = caller, wanted
        self._base = visible(caller) if base is None else base

    def query(self, without: str = "") -> ApplicationQuerySet:
        """Return the selected applications, ignoring the facet `without`."""
        found = self._base
        wanted = self.wanted
        for name, values in wanted.facets.items():
            if name != without:
                any_of = Q()
                for value in values:
                    any_of |= _condition(name, value, wanted.now)
                found = found.filter(any_of)
        for label in wanted.labels:
            found = found.filter(_label(label))
        if wanted.words:
            found = found.alias(
                revisions_text=Cast("revisions", TextField()),
                images_text=Cast("summary", TextField()),
            )
            found = found.filter(_text(wanted.words, wanted.now))
        if wanted.favourites and self.caller.account is not None:
            found = found.filter(favourites__account=self.caller.account)
        return found.distinct() if {"repository"} & set(wanted.facets) else found

    def total(self) -> int:
        """Return how many applications the caller may see."""
        return self._base.count()

    def counts(self, column: str, without: str = "") -> dict[str, int]:
        """Return the number of applications by the value of a column."""
        rows = self.query(without).order_by().values(column)
        rows = rows.annotate(count=Count("pk", distinct=True))
        return {r[column]: r["count"] for r in rows if r[column] not in (None, "")}

    def facets(self) -> Iterator[Facet]:
        """Yield the facets with their counts."""
        for name, title in TITLES.items():
            yield self._facet(name, title)
        labels = self.labels()
        if labels:
            yield Facet(
                "label", "Label", labels, 0, bool(self.wanted.labels), bool(self.wanted.labels)
            )

    def facet_counts(self, name: str) -> dict[str, int]:
        """Return the number of applications by the value of a facet, whatever is selected of it."""
        if name in ("health", "sync"):
            found = self.counts(_COLUMNS[name], name)
            return {v: found.get(v, 0) for v in (HEALTH if name == "health" else SYNC)}
        if name in _COLUMNS:
            return self.counts(_COLUMNS[name], name)
        base = self.query(name)
        values = {
            "freshness": ("current", "stale"),
            "operation": tuple(_OPERATIONS),
            "auto": ("on", "off"),
        }[name]
        return {v: base.filter(_condition(name, v, self.wanted.now)).count() for v in values}

    def stale_count(self) -> int:
        """Return how many of the applications are stale."""
        condition = _condition("freshness", "stale", self.wanted.now)
        return self.query("freshness").filter(condition).count()

    def labels(self) -> list[Option]:
        """Return the most frequent labels."""
        counts: dict[str, int] = {}
        for labels in self.query().order_by().values_list("labels", flat=True)[:MAX_COUNTED]:
            for key, value in labels.items():
                text = f"{key}={value}"
                counts[text] = counts.get(text, 0) + 1
        own = self.wanted.labels
        order = sorted(counts, key=lambda t: (t not in own, -counts[t], t))
        found = [Option(t, t, counts[t], t in own) for t in order[: max(MAX_VALUES, len(own))]]
        return found + [Option(t, t, 0, True) for t in own if t not in counts]

    def _facet(self, name: str, title: str) -> Facet:
        own = self.wanted.facets.get(name, [])
        found = list(self.facet_counts(name).items())
        is_fixed = name in ("health", "sync")
        if name in _COLUMNS and not is_fixed:
            found.sort(key=lambda e: (e[0] not in own, -e[1], e[0]))
        listed = found if is_fixed else found[: max(MAX_VALUES, len(own))]
        known = {v for v, _ in listed}
        values = [Option(v, _WORDS.get(v, v), c, v in own) for v, c in listed]
        values += [Option(v, _WORDS.get(v, v), 0, True) for v in own if v not in known]
        more = len(found) - len(listed)
        return Facet(name, title, values, more, bool(own) or name in _OPEN, bool(own))

    def rows(self) -> list[Application]:
        """Return the applications of one page."""
        start = (self.wanted.page - 1) * PAGE
        found = (
            self._ordered()
            .select_related("cluster", "operation")
            .defer("inputs", "compared_to", "finalizers")
        )
        return list(found[start : start + PAGE])

    def _ordered(self) -> ApplicationQuerySet:
        query, sort = self.query(), self.wanted.sort
        if sort == "name":
            return query.order_by("name", "namespace")
        if sort == "-changed":
            return query.order_by(F("operation__started_at").desc(nulls_last=True), "name")
        if sort in ("project", "cluster"):
            return query.order_by(_COLUMNS[sort], "name")
        return query.annotate(badness=_BADNESS).order_by("badness", "name", "namespace")


_BADNESS = Case(
    *(
        When(health_status=word, then=Value(number * 10))
        for number, word in enumerate(("Degraded", "Missing", "Unknown", "Progressing"))
    ),
    When(sync_status="OutOfSync", then=Value(50)),
    When(sync_status="Unknown", then=Value(60)),
    When(health_status="Suspended", then=Value(70)),
    default=Value(90),
    output_field=IntegerField(),
)


def bars(
    counts: Mapping[str, int], words: tuple[str, ...], width: float = 400.0
) -> list[tuple[str, float, float]]:
    """Return (word, left, width) of the segments of a bar; each is at least 2 % wide."""
    total = sum(counts.values())
    parts = [(w, counts.get(w, 0)) for w in words if counts.get(w, 0)]
    if not total:
        return []
    least, gap = width * 0.02, 3.0
    free = width - gap * (len(parts) - 1)
    sizes = [max(least, free * c / total) for _, c in parts]
    scale = free / sum(sizes)
    left, result = 0.0, []
    for (word, _), size in zip(parts, sizes, strict=True):
        result.append((word, round(left, 1), round(size * scale, 1)))
        left += size * scale + gap
    return result


def since(application: Application) -> datetime | None:
    """Return since when the application is not healthy or not synced."""
    marks = [
        application.health_changed_at if application.health_status != "Healthy" else None,
        application.out_of_sync_since,
    ]
    known = [m for m in marks if m is not None]
    return min(known) if known else application.health_changed_at
