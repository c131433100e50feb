"""Requests to the API server of a cluster.

They go over urllib3: the typed client of the `kubernetes` package takes eight times as much CPU.
"""

import contextlib
import copy
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
from django.conf import settings

from clusters.connection_config import headers_of, in_cluster_config, ssl_context
from clusters.kinds import (
    Cause,
    Kind,
    Refused,
    aggregated,
    is_sound,
    listed_kinds,
    path_of,
    path_segment,
)
from clusters.models import Cluster
from hub.base.metrics import KUBE_REQUESTS
from hub.base.outbound import pools
from hub.base.outbound.bounds import TooMuch, parse
from hub.base.redaction import redact_text
from hub.engine.errors import RetryLater, Stalled
from hub.engine.field_sets import MANAGER
from hub.engine.resource import Manifest, is_segment, resource_key, split_api_version
from hub.rest import idempotency

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
_DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
_FIELDS_WITHOUT_SECRETS = ("type", "immutable", "metadata.name", "metadata.namespace")
_MAX_STREAMS = 64
"""Logs of a cluster that are read at the same time."""
REQUEST_SECONDS = 60.0
"""Limit for a whole response."""
DISCOVERY_SECONDS = 120.0
_ERROR_BYTES = 64 * 1024
_LONG_MESSAGE, _LONG_CAUSE = 600, 200
"""The length from which a message names the fields without their values."""


Reload = Callable[[], tuple[str, dict[str, Any]] | None]


EVENTS = Kind("", "v1", "Event", "events", True, ())
PODS = Kind("", "v1", "Pod", "pods", True, ())
SECRETS = Kind("", "v1", "Secret", "secrets", True, ())


class Unreachable(RetryLater):
    """The API server did not answer."""


def unreachable(cluster_name: str, error: object) -> Unreachable:
    """Return the error for a cluster whose API server does not answer."""
    reason = getattr(error, "reason", error)
    return Unreachable(
        "ClusterUnreachable",
        f"cluster {cluster_name} does not answer: {redact_text(str(reason))[:300]}",
        timedelta(seconds=15),
    )


class Limiter:
    """Limit the requests per second to one cluster, with a burst of one second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free_at, self._lock = rate, 0.0, threading.Lock()

    def wait(self) -> None:
        """Block until the next request may be sent."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 1) + 1 / self._rate
            delay = self._free_at - now
        if delay > 0:
            time.sleep(delay)


class Connection:
    """Requests to one cluster, with a connection pool, and one of its own for streams."""

    def __init__(
        self, server: str, name: str, config: Mapping[str, Any], reload: Reload | None = None
    ) -> None:
        self._reload = reload
        self.server, self.name, self.config = server.rstrip("/"), name, config
        self._headers = {
            "Accept": "application/json",
            "User-Agent": "flotilla",
            **headers_of(config),
        }
        tls = config.get("tlsClientConfig") or {}
        extra: dict[str, Any] = {}
        if server.startswith("https"):
            extra["ssl_context"] = ssl_context(config)
            if tls.get("serverName"):
                extra |= {
                    "server_hostname": tls["serverName"],
                    "assert_hostname": tls["serverName"],
                }
        self._pool = pools.pool(maxsize=settings.KUBE_PARALLELISM, **extra)
        # Streams last for hours: they must not take the connections of other requests.
        self._streams = pools.pool(maxsize=_MAX_STREAMS, **extra)
        self._limiter = Limiter(settings.KUBE_QPS)
        self._kinds: dict[tuple[str, str], list[Kind]] = {}
        self._discovered_at = 0.0
        self.unavailable: frozenset[str] = frozenset()
        """API groups whose aggregated server did not answer at the last discovery."""
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, Any] | None = None,
        accept: str = "",
        maximum: int = 0,
    ) -> Any:
        """Return the parsed response.

        Units: `maximum` bytes; 0 stands for the limit of every response (HUB_CLUSTER_ANSWER_BYTES).
        Raises: Refused for an error status, Unreachable without a usable response.
        """
        if method != "GET":
            idempotency.before_change()
        sent = (method, path, body, content_type, query, accept, maximum)
        status, data = self._answer(*sent)
        if status == 401 and self.renew():
            status, data = self._answer(*sent)
        if status >= 300:
            raise refusal(status, data)
        try:
            return parse(data) if data else {}
        except TooMuch as error:
            raise unreachable(self.name, error) from error
        except orjson.JSONDecodeError as error:
            raise unreachable(
                self.name, "the response is not JSON: is this a Kubernetes API server?"
            ) from error

    def read(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """Return the response of a path, not parsed.

        Raises: Refused for an error status, Unreachable without a response.
        """
        sent = ("GET", path, None, "", query, "application/json", 0)
        status, data = self._answer(*sent)
        if status == 401 and self.renew():
            status, data = self._answer(*sent)
        if status >= 300:
            raise refusal(status, data)
        return data

    def _answer(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        query: Mapping[str, Any] | None,
        accept: str,
        maximum: int,
    ) -> tuple[int, bytes]:
        setting = "HUB_CLUSTER_OBJECT_BYTES" if maximum else "HUB_CLUSTER_ANSWER_BYTES"
        maximum = maximum or settings.CLUSTER_ANSWER_BYTES
        allowance = pools.Allowance(maximum, REQUEST_SECONDS)
        response = self._send(allowance, method, path, body, content_type, query, accept)
        try:
            if response.status >= 400:
                return response.status, _beginning(response)
            return response.status, pools.read(response, maximum)
        except (TooMuch, pools.HTTPError, OSError) as error:
            raise unreachable(self.name, _with_setting(error, setting)) from error

    @contextlib.contextmanager
    def stream(self, path: str, query: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """Open a text response without an end, such as the logs of a pod, and yield its chunks.

        Raises: Refused for an error status, Unreachable when the server does not answer or stops
            sending.
        """
        # The headers and an error body are bounded like those of any other response.
        allowance = pools.Allowance(settings.CLUSTER_OBJECT_BYTES, REQUEST_SECONDS)
        response = self._send(
            allowance, "GET", path, None, "", query, "text/plain, */*", self._streams
        )
        try:
            if response.status >= 300:
                raise refusal(response.status, _beginning(response))
            allowance.stream()
            yield self._pieces(response, allowance)
        finally:
            response.close()

    def _pieces(self, response: pools.Response, allowance: pools.Allowance) -> Iterator[bytes]:
        try:
            for piece in pools.pieces(response, None):
                allowance.renew()
                yield piece
        except (TooMuch, pools.HTTPError, OSError) as error:
            raise unreachable(self.name, error) from error

    def _send(
        self,
        allowance: pools.Allowance,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        query: Mapping[str, Any] | None,
        accept: str,
        pool: pools.Pool | None = None,
    ) -> pools.Response:
        self._limiter.wait()
        headers = dict(self._headers)
        if accept:
            headers["Accept"] = accept
        if body is not None:
            headers["Content-Type"] = content_type
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        sent = None if body is None else orjson.dumps(body)
        try:
            response = pools.send(
                pool or self._pool, method, url, allowance, body=sent, headers=headers
            )
        except (pools.HTTPError, OSError, ValueError) as error:
            KUBE_REQUESTS.labels(self.server, method, "0").inc()
            raise unreachable(self.name, error) from error
        KUBE_REQUESTS.labels(self.server, method, str(response.status)).inc()
        return response

    def acting_as(self, user: str) -> "Connection":
        """Return a connection that impersonates a user and shares the pool and the discovery."""
        other = copy.copy(self)
        other._headers = {**self._headers, "Impersonate-User": user}
        return other

    def renew(self) -> bool:
        """Reload credentials that rotate on their own, those of the hub's own pod.

        Return whether they had changed.
        """
        if self._reload is None:
            return False
        fresh = self._reload()
        if fresh is None or fresh[1] == self.config:
            return False
        self.config = fresh[1]
        self._headers = {**self._headers, **headers_of(self.config)}
        return True

    def server_version(self) -> str:
        """Return the version that the API server reports, such as v1.36.3."""
        answer = self.request("GET", "/version")
        return str(answer.get("gitVersion", ""))[:64] if isinstance(answer, dict) else ""

    def kinds(self, *, fresh: bool = False) -> list[Kind]:
        """Return the preferred version of every kind that the cluster serves."""
        self._discover(fresh=fresh)
        return [versions[0] for versions in self._kinds.values()]

    def served(self) -> list[Kind]:
        """Return every version of every kind as of the last discovery, preferred versions first."""
        known = list(self._kinds.values())
        others = [kind for versions in known for kind in versions[1:]]
        return [*(versions[0] for versions in known), *others]

    def kind(self, group: str, kind: str, version: str = "") -> Kind | None:
        """Return how the cluster serves a kind, None when it does not serve it in that version.

        A kind that is not known starts a new discovery.
        """
        self._discover()
        found = self._pick(group, kind, version)
        if found is None and time.monotonic() - self._discovered_at > 2:
            self._discover(fresh=True)
            found = self._pick(group, kind, version)
        return found

    def known_kind(self, group: str, kind: str, version: str = "") -> Kind | None:
        """Return how the cluster serves a kind as of the last discovery."""
        self._discover()
        return self._pick(group, kind, version)

    def _pick(self, group: str, kind: str, version: str) -> Kind | None:
        versions = self._kinds.get((group, kind), [])
        if not version:
            return versions[0] if versions else None
        return next((k for k in versions if k.version == version), None)

    def _discover(self, *, fresh: bool = False) -> None:
        with self._lock:
            if self._kinds and not fresh and time.monotonic() - self._discovered_at < 600:
                return
            silent: set[str] = set()
            try:
                found = self._found(silent)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise unreachable(self.name, "its discovery document is malformed") from error
            self._kinds, self._discovered_at = found, time.monotonic()
            self.unavailable = frozenset(silent)

    def _found(self, silent: set[str]) -> dict[tuple[str, str], list[Kind]]:
        found: dict[tuple[str, str], list[Kind]] = {}
        count = 0
        for root in ("/api", "/apis"):
            for kind in self._discover_root(root, silent):
                if not is_sound(kind):
                    continue
                count += 1
                if count > settings.CLUSTER_KINDS:
                    raise Stalled(
                        "TooManyKinds",
                        f"cluster {self.name} serves more than {settings.CLUSTER_KINDS} kinds, "
                        "the limit (HUB_CLUSTER_KINDS)",
                    )
                found.setdefault((kind.group, kind.kind), []).append(kind)
        return found

    def _discover_root(self, root: str, silent: set[str]) -> Iterator[Kind]:
        answer = self.request("GET", root, accept=_DISCOVERY)
        if "items" in answer:
            yield from aggregated(answer["items"], silent)
            return
        if root == "/api":
            groups = [("", version) for version in answer.get("versions", [])]
        else:
            groups = [
                tuple(entry["groupVersion"].split("/"))
                for group in answer.get("groups", [])
                for entry in group.get("versions", [])
            ]
        until = time.monotonic() + DISCOVERY_SECONDS
        for group, version in groups:
            if time.monotonic() > until:
                raise unreachable(
                    self.name, f"discovery took longer than {DISCOVERY_SECONDS:.0f} s"
                )
            if not (is_segment(version) and (not group or is_segment(group))):
                continue
            try:
                listed = self.request(
                    "GET", path_of("apis", group, version) if group else path_of("api", version)
                )
            except Refused:
                silent.add(group)  # an aggregated API that is down hides only its own kinds
                continue
            yield from listed_kinds(group, version, listed.get("resources", []))

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return a resource, None when it does not exist."""
        path = kind.resource_path(namespace, name)
        try:
            found = self.request("GET", path, maximum=settings.CLUSTER_OBJECT_BYTES)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        if not isinstance(found, dict):
            raise unreachable(self.name, "the response is not a JSON object")
        return found

    def apply(
        self,
        kind: Kind,
        manifest: Manifest,
        *,
        dry_run: bool = False,
        validate: bool = True,
        manager: str = MANAGER,
        force: bool = True,
    ) -> Manifest:
        """Return the resource after a server-side apply."""
        query = {
            "fieldManager": manager,
            "force": str(force).lower(),
            "fieldValidation": "Strict" if validate else "Ignore",
        }
        if dry_run:
            query["dryRun"] = "All"
        metadata = manifest["metadata"]
        path = kind.resource_path(metadata.get("namespace", ""), metadata["name"])
        return dict(self.request("PATCH", path, manifest, content_type=APPLY, query=query))

    def create(
        self, kind: Kind, manifest: Manifest, *, dry_run: bool = False, validate: bool = True
    ) -> Manifest:
        """Return the resource after creating it; `generateName` is honoured."""
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict" if validate else "Ignore"}
        if dry_run:
            query["dryRun"] = "All"
        return dict(
            self.request(
                "POST", kind.path(manifest["metadata"].get("namespace", "")), manifest, query=query
            )
        )

    def replace(
        self, kind: Kind, manifest: Manifest, *, dry_run: bool = False, validate: bool = True
    ) -> Manifest:
        """Return the resource after replacing it."""
        metadata = manifest["metadata"]
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict" if validate else "Ignore"}
        if dry_run:
            query["dryRun"] = "All"
        return dict(
            self.request(
                "PUT",
                kind.resource_path(metadata.get("namespace", ""), metadata["name"]),
                manifest,
                query=query,
            )
        )

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        *,
        content_type: str = MERGE,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Manifest:
        """Return the resource after a patch."""
        path = kind.resource_path(namespace, name) + (
            f"/{path_segment(subresource)}" if subresource else ""
        )
        query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return dict(self.request("PATCH", path, patch, content_type=content_type, query=query))

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        propagation: str = "Foreground",
        uid: str = "",
        force: bool = False,
    ) -> None:
        """Delete a resource. It is not an error if it does not exist, or has another uid by now."""
        body: dict[str, Any] = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": propagation,
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        if force:
            body["gracePeriodSeconds"] = 0
        try:
            self.request("DELETE", kind.resource_path(namespace, name), body)
        except Refused as refused:
            # 409: the uid of the precondition differs, so the name belongs to a new resource.
            if refused.status not in (404, 409):
                raise

    def close(self) -> None:
        """Drop the pooled connections."""
        self._pool.clear()
        self._streams.clear()


def _beginning(response: pools.Response) -> bytes:
    """Return the first bytes of an error response."""
    kept = bytearray()
    try:
        for piece in pools.pieces(response, _ERROR_BYTES):
            kept += piece
    except (TooMuch, pools.HTTPError, OSError):
        # The rest must not be read as the beginning of the next response.
        response.close()
        return bytes(kept)
    response.release_conn()
    return bytes(kept)


def _with_setting(error: Exception, setting: str) -> object:
    """Name the setting that raises the limit of a response that is too large."""
    if isinstance(error, TooMuch) and "larger" in str(error):
        return f"{error}, the limit ({setting})"
    return error


def refusal(status: int, data: bytes) -> Refused:
    """Return the error of an error response, truncated and without credentials."""
    try:
        answer = parse(data)
        reason, message = str(answer.get("reason") or ""), str(answer.get("message") or "")
        causes = _causes(answer.get("details"))
    except (TooMuch, orjson.JSONDecodeError, AttributeError):
        reason, message, causes = "", data[:200].decode(errors="replace"), []
    message = redact_text(_without_values(message, causes) or f"HTTP status {status}")
    return Refused(status, reason, message[:1000], causes)


def _causes(details: Any) -> list[Cause]:
    entries = details.get("causes") if isinstance(details, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            message = str(entry.get("message") or "")
            if len(message) > _LONG_CAUSE:
                # The value of a Job is its whole pod template. The reason comes last.
                message = message.rpartition(": ")[2][:_LONG_CAUSE]
            cause = Cause(str(entry.get("field")), str(entry.get("reason")), message)
            if cause not in found:
                found.append(cause)
    return found


def _without_values(message: str, causes: Sequence[Cause]) -> str:
    """Name the fields that were refused, where the message quotes long values of them."""
    subject, is_invalid, _ = message.partition(" is invalid: ")
    if len(message) <= _LONG_MESSAGE or not causes or not is_invalid:
        return message
    return f"{subject} is invalid: " + "; ".join(f"{c.field}: {c.message}" for c in causes)


def secretless(refused: Refused, manifest: Manifest) -> Refused:
    """Return the error without the server's message, which could quote the content of a Secret."""
    key = resource_key(manifest)
    if (key.group, key.kind) != ("", "Secret"):
        return refused
    fields = "; ".join(f"{c.field}: {_secretless_cause(c)}" for c in refused.causes)[:500]
    said = f"Secret {key.name} was refused ({refused.reason or refused.status})"
    if fields:
        return Refused(refused.status, refused.reason, f"{said}: {fields}")
    return Refused(
        refused.status,
        refused.reason,
        f"{said}. The message is hidden because it may quote the content. "
        "Check that data is base64 and stringData is text",
    )


def _secretless_cause(cause: Cause) -> str:
    if cause.field not in _FIELDS_WITHOUT_SECRETS:
        return cause.reason
    return cause.message.rpartition(": ")[2]


@functools.lru_cache(maxsize=1024)
def _connection(pk: int, generation: int, server: str, name: str) -> Connection:
    del generation
    cluster = Cluster.objects.get(pk=pk)
    if cluster.is_home:
        found = in_cluster_config()
        if found is None:
            raise Stalled(
                "NoHomeCluster",
                "the hub does not run in a Kubernetes cluster: in-cluster accepts only "
                "Application, AppProject and ApplicationSet",
            )
        return Connection(found[0], name, found[1], reload=in_cluster_config)
    return Connection(server, name, cluster.config)


def connect(cluster: Cluster, as_user: str = "") -> Connection:
    """Return the connection to a cluster. Changed credentials open a new one.

    With `as_user` every request impersonates that user, so that the cluster's own roles apply.
    """
    found = _connection(cluster.pk, cluster.generation, cluster.server, cluster.name)
    return found.acting_as(as_user) if as_user else found


def kind_of(connection: Connection, manifest: Manifest) -> Kind | None:
    """Return how the cluster serves the kind and version of a manifest, None when it does not."""
    group, version = split_api_version(manifest["apiVersion"])
    return connection.kind(group, manifest["kind"], version)
