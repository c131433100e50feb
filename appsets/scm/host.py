"""Request JSON from one server: bounded, within a budget, and with conditional requests.

A failed or implausible answer is an error, never an empty list. Credentials are sent only to the
server that they are for: a redirect or a next page elsewhere is refused.
"""

import hashlib
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from appsets.generators.errors import GeneratorError
from appsets.models import HostAnswer, HostBudget
from hub.base.metrics import HOST_REQUESTS
from hub.base.outbound import check_url, http, joined
from hub.base.outbound.bounds import TooMuch, parse
from hub.base.redaction import redact_text
from hub.engine.errors import Invalid
from hub.engine.parsing import parse_digits

MAX_BYTES = 20 * 1024**2
MAX_PAGES = 200
MAX_ITEMS = 20_000
REDIRECTS = 3
_CACHED_HEADERS = ("link", "x-next-page", "x-total", "x-total-pages", "x-ms-continuationtoken")


class HostError(GeneratorError):
    """A server returned no usable answer; `status` is 0 if it returned none at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Answer(NamedTuple):
    """A parsed answer."""

    body: Any
    headers: Mapping[str, str]


def origin(url: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port == default else f":{port}")


class Host:
    """A server, requested with one identity.

    Units: `timeout` in seconds.
    """

    def __init__(
        self,
        base: str,
        field: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        trust: ssl.SSLContext | bool = True,
        timeout: float = 30,
        identity: str = "",
        project: str = "",
    ) -> None:
        check_url(base, field)
        self.base, self.server = base.rstrip("/"), origin(base)
        self._headers = {"User-Agent": "flotilla", "Accept": "application/json", **(headers or {})}
        self._auth, self._trust, self._timeout = auth, trust, timeout
        # Answers are cached by identity, so that a renewed token does not invalidate all of them.
        said = identity.encode() or orjson.dumps([sorted(self._headers.items()), auth])
        self._identity = hashlib.sha256(said).hexdigest()
        self._spender = Spender(self.server, project, self._identity)
        self._client: http.Client | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def get(self, path: str, /, **query: Any) -> Any:
        """Return the JSON of a path below the base.

        Raises: HostError.
        """
        return self.ask(path, query).body

    def find(self, path: str, /, **query: Any) -> Any | None:
        """Return the JSON of a path, None for 404.

        Raises: HostError.
        """
        try:
            return self.get(path, **query)
        except HostError as error:
            if error.status == 404:
                return None
            raise

    def has(self, path: str, /, **query: Any) -> bool:
        """Return whether a path exists, JSON or not.

        Raises: HostError.
        """
        try:
            self.ask(path, query, parse=False)
        except HostError as error:
            if error.status == 404:
                return False
            raise
        return True

    def post(self, path: str, body: Any) -> Any:
        """Return the JSON answer to a JSON body.

        Raises: HostError.
        """
        url = self._url(path, {})
        response, data = self._send(
            "POST", url, {"Content-Type": "application/json"}, orjson.dumps(body)
        )
        self._check(response, data, url)
        return _parsed(data, url)

    def ask(self, path: str, query: Mapping[str, Any], *, parse: bool = True) -> Answer:
        """Return an answer; a cached one is requested conditionally.

        Raises: HostError.
        """
        url = self._url(path, query)
        key = hashlib.sha256(f"{url}\0{self._identity}".encode()).hexdigest()
        known = HostAnswer.objects.filter(key=key).first()
        headers = {"If-None-Match": known.etag} if known else {}
        response, data = self._send("GET", url, headers, None)
        for _ in range(REDIRECTS):
            if response.status_code not in (301, 302, 303, 307, 308):
                break
            target = _target(url, response.headers.get("location", ""))
            if origin(target) != self.server:
                raise HostError(
                    f"{_shown(url)} redirects to {origin(target)}, another server, which is not "
                    "followed",
                    response.status_code,
                )
            response, data = self._send("GET", target, headers, None)
        if response.status_code == 304 and known is not None:
            body = zlib.decompress(bytes(known.body))
            HostAnswer.objects.filter(pk=known.pk).update(at=timezone.now())
            self._spender.refund()
            return Answer(_parsed(body, url) if parse else None, known.headers)
        self._check(response, data, url)
        found = Answer(
            _parsed(data, url) if parse else None,
            {h: response.headers[h] for h in _CACHED_HEADERS if h in response.headers},
        )
        etag = response.headers.get("etag", "")
        if etag and len(etag) <= 500:
            HostAnswer.objects.update_or_create(
                key=key,
                defaults={
                    "etag": etag,
                    "body": zlib.compress(data),
                    "headers": dict(found.headers),
                    "at": timezone.now(),
                },
            )
        return found

    def linked(self, path: str, /, **query: Any) -> Iterator[Any]:
        """Yield the items of pages that name the next one in the Link header.

        Raises: HostError, also for a list that ends before its announced last page.
        """

        def following(answer: Answer, _items: list[Any]) -> str:
            return http.links(answer.headers.get("link", "")).get("next", "")

        yield from self.paged(path, query, lambda body: body, following)

    def paged(
        self,
        path: str,
        query: Mapping[str, Any],
        items: Callable[[Any], Any],
        following: Callable[[Answer, list[Any]], str],
    ) -> Iterator[Any]:
        """Yield the items of all pages; `following` returns the URL or path of the next one, or "".

        Raises: HostError.
        """
        url, announced, number, count = self._url(path, query), 0, 0, 0
        while True:
            number += 1
            if number > MAX_PAGES:
                raise HostError(f"{_shown(url)} has more than {MAX_PAGES} pages")
            answer = self.ask(url, {})
            found = items(answer.body)
            if not isinstance(found, list) or not all(isinstance(i, Mapping) for i in found):
                raise HostError(f"{_shown(url)} did not answer with a list of objects")
            count += len(found)
            if count > MAX_ITEMS:
                raise HostError(f"{_shown(url)} lists more than {MAX_ITEMS} items")
            yield from found
            announced = announced or _last_page(answer.headers)
            onward = following(answer, found)
            if not onward:
                break
            if not found:
                raise HostError(f"{_shown(url)} answered with an empty page and names a next one")
            onward = urljoin(url, onward)
            if origin(onward) != self.server:
                raise HostError(
                    f"{_shown(url)} names a next page at {origin(onward)}, another server"
                )
            url = onward
        if number < announced:
            raise HostError(
                f"{_shown(url)} ended at page {number} of the {announced} that it announced"
            )

    def _url(self, path: str, query: Mapping[str, Any]) -> str:
        url = path if path.startswith(f"{self.server}/") else self.base + path
        wanted = [(k, str(v)) for k, v in query.items() if v is not None]
        if not wanted:
            return url
        parts = urlsplit(url)
        return parts._replace(query=urlencode([*parse_qsl(parts.query), *wanted])).geturl()

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[http.Response, bytes]:
        self._spender.spend()
        if self._client is None:
            self._client = http.client(
                headers=self._headers,
                auth=self._auth,
                verify=self._trust,
                timeout=self._timeout,
                connect=self._timeout,
                seconds=self._timeout * 4,
            )
        try:
            with self._client.stream(method, url, headers=dict(headers), content=body) as response:
                data = http.body(response, MAX_BYTES)
                HOST_REQUESTS.labels(self.server, str(response.status_code)).inc()
                return response, data
        except TooMuch as error:
            raise HostError(f"{_shown(url)}: {error}") from error
        except (http.HTTPError, ssl.SSLError, OSError, ValueError) as error:
            HOST_REQUESTS.labels(self.server, "0").inc()
            said = redact_text(str(error))[:300] or type(error).__name__
            raise HostError(f"{_shown(url)} did not answer: {said}") from error

    def _check(self, response: http.Response, data: bytes, url: str) -> None:
        if (until := _retry_at(response)) is not None:
            self._spender.pause(until)
            if response.status_code in (403, 429) or response.status_code >= 500:
                raise HostError(
                    f"{self.server} asks to be left alone until {until:%Y-%m-%d %H:%M:%S} UTC",
                    response.status_code,
                )
        if response.status_code >= 300:
            said = redact_text(data[:300].decode(errors="replace")).strip()
            raise HostError(
                f"{_shown(url)} answered {response.status_code}: {said}", response.status_code
            )


class Spender:
    """Who makes requests to a server, and the budgets that they count against.

    All sets share the budget of a server, of which one project has half at most. A pause that the
    server asks for is for the identity that was too fast: others may go on.
    """

    def __init__(self, server: str, project: str = "", identity: str = "") -> None:
        self._server = server
        self._project = f"{server} project {_short(project)}"
        self._reader = f"{server} reader {_short(identity)}"

    def spend(self) -> None:
        """Take one request from the budgets.

        Raises: HostError if none is left, or if the server asked for a pause.
        """
        self._check_pause()
        hourly = settings.SCM_REQUESTS_PER_HOUR
        with transaction.atomic():
            # The project first: who has used up its half takes nothing from the others.
            if not _take(self._project, hourly / 2):
                raise HostError(
                    f"the project has used up its half of the {hourly} requests an hour for "
                    f"{self._server} (HUB_SCM_REQUESTS_PER_HOUR)",
                    429,
                )
            if not _take(self._server, hourly):
                raise HostError(
                    f"the budget of {hourly} requests an hour for {self._server} is used up "
                    "(HUB_SCM_REQUESTS_PER_HOUR)",
                    429,
                )

    def refund(self) -> None:
        """Return the request of an unchanged answer, as servers do not count it."""
        rows = HostBudget.objects.filter(server__in=[self._project, self._server])
        rows.update(tokens=F("tokens") + 1)

    def pause(self, until: datetime) -> None:
        """Make no requests with this identity until then."""
        HostBudget.objects.update_or_create(
            server=self._reader, defaults={"blocked_until": until, "filled_at": timezone.now()}
        )

    def _check_pause(self) -> None:
        paused = HostBudget.objects.filter(
            server=self._reader, blocked_until__gt=timezone.now()
        ).first()
        if paused is not None:
            raise HostError(
                f"{self._server} asked to be left alone until "
                f"{paused.blocked_until:%Y-%m-%d %H:%M:%S} UTC",
                429,
            )


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _take(name: str, hourly: float) -> bool:
    """Take a request from a budget; return whether there was one."""
    now, maximum = timezone.now(), max(10, hourly / 4)
    HostBudget.objects.get_or_create(server=name, defaults={"tokens": maximum, "filled_at": now})
    row = HostBudget.objects.select_for_update().get(server=name)
    elapsed = max(0.0, (now - row.filled_at).total_seconds())
    tokens = min(maximum, row.tokens + elapsed * hourly / 3600)
    if tokens < 1:
        return False
    HostBudget.objects.filter(pk=row.pk).update(tokens=tokens - 1, filled_at=now)
    return True


def forget_spenders() -> None:
    """Delete the budgets of projects and pauses of identities that are not used any more."""
    since = timezone.now() - timedelta(days=1)
    HostBudget.objects.filter(server__contains=" ", filled_at__lt=since).delete()


def _retry_at(response: http.Response) -> datetime | None:
    """Return until when a server refuses further requests, None if it did not say so."""
    now = timezone.now()
    after = response.headers.get("retry-after", "")
    seconds = parse_digits(after)
    if seconds is not None:
        return now + timedelta(seconds=min(seconds, 7200))
    if after:
        try:
            return min(parsedate_to_datetime(after).astimezone(UTC), now + timedelta(hours=2))
        except (ValueError, TypeError, OverflowError):
            pass
    for left, reset in (
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
        ("ratelimit-remaining", "ratelimit-reset"),
    ):
        at = parse_digits(response.headers.get(reset))
        if response.headers.get(left) == "0" and at is not None:
            until = datetime.fromtimestamp(min(at, 2**33), UTC)
            return min(until, now + timedelta(hours=2)) if until > now else None
    if response.status_code == 429:
        return now + timedelta(minutes=1)
    return None


def _target(url: str, location: str) -> str:
    try:
        return joined(url, location, "location")
    except Invalid as error:
        raise HostError(f"{_shown(url)} redirects to what is no URL") from error


def _last_page(headers: Mapping[str, str]) -> int:
    total = parse_digits(headers.get("x-total-pages"))
    if total is not None:
        return total
    last = http.links(headers.get("link", "")).get("last", "")
    page = dict(parse_qsl(last.partition("?")[2].partition("#")[0])).get("page", "")
    return parse_digits(page) or 0


def _parsed(data: bytes, url: str) -> Any:
    try:
        return parse(data)
    except TooMuch as error:
        raise HostError(f"{_shown(url)}: {error}") from error
    except orjson.JSONDecodeError as error:
        raise HostError(f"{_shown(url)} did not answer with JSON") from error


def _shown(url: str) -> str:
    """Return a URL without its query, which may hold secrets."""
    parts = urlsplit(url)
    return redact_text(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
