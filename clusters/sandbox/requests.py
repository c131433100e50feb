"""The requests of one sandbox cluster: reads, changes, watches and logs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from clusters.sandbox import discovery
from clusters.sandbox.controllers import Controllers, is_service_token
from clusters.sandbox.kinds import Served
from clusters.sandbox.store import Failure, Store
from hub.engine.errors import Invalid, ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.parsing import parse_digits
from hub.engine.resource import Manifest
from hub.rest.views import selector

log = logging.getLogger(__name__)

BOOKMARK_SECONDS = 60


def _json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def failure_response(failure: Failure) -> web.Response:
    """Return the response to a request that failed, as a Status."""
    return _json(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": failure.message,
            "reason": failure.reason,
            "code": failure.status,
        },
        failure.status,
    )


class Sandbox:
    """One sandbox cluster: its state, controllers and HTTP routes."""

    def __init__(self, name: str, token: str, path: Path | None) -> None:
        self.name, self.token = name, token
        self.store = Store(name, path)
        self.down = False
        """While true every request fails, as with an unreachable cluster."""
        self.controllers = Controllers(self.store)

    async def handle(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer one request."""
        if self.down:
            if request.transport:
                request.transport.abort()
            return web.Response(status=503)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != self.token and not (token and is_service_token(self.store, token)):
            return failure_response(Failure(401, "Unauthorized", "Unauthorized"))
        try:
            return await self._route(request, [p for p in path.split("/") if p])
        except Failure as failure:
            return failure_response(failure)
        except (
            ManifestError,
            orjson.JSONDecodeError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            text = f"the body cannot be read: {error!r}"
            return failure_response(Failure(400, "BadRequest", text))

    async def _route(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        match parts:
            case ["version"]:
                return _json(
                    {
                        "major": "1",
                        "minor": "36",
                        "gitVersion": discovery.VERSION,
                        "platform": "linux/amd64",
                    }
                )
            case ["healthz" | "readyz" | "livez"]:
                return web.Response(text="ok")
            case ["openapi", "v3", *rest]:
                return _json(discovery.openapi(self.store, self.name, "/".join(rest)))
            case ["api"]:
                return self._groups(request, core=True)
            case ["apis"]:
                return self._groups(request, core=False)
            case ["api", version]:
                return _json(discovery.resources(self.store, "", version))
            case ["apis", group, version]:
                return _json(discovery.resources(self.store, group, version))
            case ["api", "v1", *rest]:
                return await self._resource(request, "", rest)
            case ["apis", group, _version, *rest]:
                return await self._resource(request, group, rest)
        raise Failure(404, "NotFound", "the server could not find the requested resource")

    def _groups(self, request: web.Request, *, core: bool) -> web.Response:
        accept = request.headers.get("Accept", "")
        body, content_type = discovery.groups(self.store, accept, core=core)
        return web.Response(body=orjson.dumps(body), headers={"Content-Type": content_type})

    async def _resource(
        self, request: web.Request, group: str, parts: list[str]
    ) -> web.StreamResponse:
        namespace = ""
        if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in ("status", "finalize"):
            namespace, parts = parts[1], parts[2:]
        kind = self.store.kinds.get((group, parts[0]))
        if kind is None:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if len(parts) == 1:
            return await self._collection(request, kind, namespace)
        name, subresource = parts[1], parts[2] if len(parts) > 2 else ""
        if subresource == "log":
            return await self._logs(request, namespace, name)
        return await self._one(request, kind, namespace, name, subresource)

    async def _collection(
        self, request: web.Request, kind: Served, namespace: str
    ) -> web.StreamResponse:
        query = request.query
        if request.method == "GET":
            if query.get("watch") in ("1", "true"):
                return await self._watch(request, kind, namespace)
            return _json(self._list(request, kind, namespace))
        if request.method == "POST":
            manifest = await self._body(request)
            metadata = manifest.setdefault("metadata", {})
            if kind.namespaced:
                metadata["namespace"] = namespace or metadata.get("namespace") or "default"
            if metadata.get("name") and self.store.get(
                kind, metadata.get("namespace", ""), metadata["name"]
            ):
                raise Failure(
                    409, "AlreadyExists", f'{kind.plural} "{metadata["name"]}" already exists'
                )
            metadata.pop("managedFields", None)
            return _json(
                self.store.put(
                    kind, manifest, manager=_manager(request), dry_run="dryRun" in query
                ),
                201,
            )
        if request.method == "DELETE":
            for manifest in list(self.store.all(kind, namespace)):
                self.store.delete(kind, manifest)
            return _json({"kind": "Status", "status": "Success"})
        raise Failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )

    def _list(self, request: web.Request, kind: Served, namespace: str) -> Any:
        items = [
            m
            for m in self.store.all(kind, namespace)
            if _selected(m, request.query.get("labelSelector", ""))
        ]
        field = request.query.get("fieldSelector", "")
        if field.startswith("metadata.name="):
            items = [m for m in items if m["metadata"]["name"] == field.partition("=")[2]]
        elif field:
            items = [m for m in items if _field_selected(m, field)]
        if "PartialObjectMetadata" in request.headers.get("Accept", ""):
            items = [_partial(m) for m in items]
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(self.store.version)},
            "items": items,
        }

    async def _watch(
        self, request: web.Request, kind: Served, namespace: str
    ) -> web.StreamResponse:
        version = parse_digits(request.query.get("resourceVersion")) or self.store.version
        if version and version < self.store.first_event:
            raise Failure(410, "Expired", f"too old resource version: {version}")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        partial = "PartialObjectMetadata" in request.headers.get("Accept", "")
        async for what, manifest in self._events(kind, namespace, version):
            shown = _partial(manifest) if partial and what != "BOOKMARK" else manifest
            await answer.write(orjson.dumps({"type": what, "object": shown}) + b"\n")
        return answer

    async def _events(
        self, kind: Served, namespace: str, version: int
    ) -> AsyncIterator[tuple[str, Manifest]]:
        waiter = asyncio.Event()
        self.store.waiters.add(waiter)
        try:
            while not self.down:
                waiter.clear()
                fresh = [e for e in self._since(version) if e[1] == (kind.group, kind.plural)]
                version = self.store.version
                for _number, _place, what, manifest in fresh:
                    if not namespace or manifest["metadata"].get("namespace") == namespace:
                        yield what, manifest
                try:
                    async with asyncio.timeout(BOOKMARK_SECONDS):
                        await waiter.wait()
                except TimeoutError:
                    yield (
                        "BOOKMARK",
                        {
                            "kind": kind.kind,
                            "apiVersion": kind.api_version,
                            "metadata": {"resourceVersion": str(self.store.version)},
                        },
                    )
        finally:
            self.store.waiters.discard(waiter)

    def _since(self, version: int) -> list[Any]:
        found = []
        for event in reversed(self.store.events):
            if event[0] <= version:
                break
            found.append(event)
        return found[::-1]

    async def _one(
        self, request: web.Request, kind: Served, namespace: str, name: str, subresource: str
    ) -> web.StreamResponse:
        before = self.store.get(kind, namespace, name)
        content_type = request.headers.get("Content-Type", "").partition(";")[0]
        dry_run = "dryRun" in request.query
        if (
            request.method == "PATCH"
            and content_type == "application/apply-patch+yaml"
            and not subresource
        ):
            return _json(
                self.store.apply(
                    kind,
                    namespace,
                    name,
                    await self._body(request),
                    manager=_manager(request),
                    force=request.query.get("force") == "true",
                    dry_run=dry_run,
                )
            )
        if before is None:
            suffix = f".{kind.group}" if kind.group else ""
            raise Failure(404, "NotFound", f'{kind.plural}{suffix} "{name}" not found')
        if subresource == "scale":
            return _json(await self._scale(request, kind, before))
        if request.method == "GET":
            return _json(
                _partial(before)
                if "PartialObjectMetadata" in request.headers.get("Accept", "")
                else before
            )
        return _json(await self._changed(request, kind, before, subresource, dry_run=dry_run))

    async def _changed(
        self,
        request: web.Request,
        kind: Served,
        before: Manifest,
        subresource: str,
        *,
        dry_run: bool,
    ) -> Manifest:
        if request.method == "PATCH":
            return self.store.patch(
                kind,
                before,
                await self._body(request),
                request.headers.get("Content-Type", "").partition(";")[0],
                manager=_manager(request),
                subresource=subresource,
                dry_run=dry_run,
            )
        if request.method == "PUT":
            body, manager = await self._body(request), _manager(request)
            return self._put(kind, before, body, manager, subresource, dry_run=dry_run)
        if request.method == "DELETE":
            return await self._deleted(request, kind, before, dry_run=dry_run)
        raise Failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )

    async def _deleted(
        self, request: web.Request, kind: Served, before: Manifest, *, dry_run: bool
    ) -> Manifest:
        options = await self._body(request, empty=True)
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != before["metadata"]["uid"]:
            raise Failure(409, "Conflict", "Precondition failed: UID in precondition differs")
        propagation = (
            options.get("propagationPolicy")
            or request.query.get("propagationPolicy")
            or "Background"
        )
        return self.store.delete(kind, before, propagation=propagation, dry_run=dry_run)

    async def _scale(self, request: web.Request, kind: Served, before: Manifest) -> Manifest:
        if request.method != "GET":
            wanted = ((await self._body(request)).get("spec") or {}).get("replicas")
            spec = {**before["spec"], "replicas": wanted}
            before = self.store.put(kind, {**before, "spec": spec}, manager=_manager(request))
        metadata = {
            k: before["metadata"].get(k) for k in ("name", "namespace", "uid", "resourceVersion")
        }
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": metadata,
            "spec": {"replicas": before["spec"].get("replicas", 1)},
            "status": {"replicas": (before.get("status") or {}).get("replicas", 0)},
        }

    def _put(
        self,
        kind: Served,
        before: Manifest,
        manifest: Manifest,
        manager: str,
        subresource: str,
        *,
        dry_run: bool,
    ) -> Manifest:
        version = manifest["metadata"].get("resourceVersion")
        if version and version != before["metadata"]["resourceVersion"]:
            raise Failure(
                409,
                "Conflict",
                "the object has been modified; please apply your changes "
                "to the latest version and try again",
            )
        if subresource == "status":
            return self.store.set_status(kind, before, manifest.get("status") or {})
        if subresource == "finalize":
            return self.store.delete(kind, before)
        if "status" in before:
            manifest = {**manifest, "status": before["status"]}
        return self.store.put(kind, manifest, manager=manager, dry_run=dry_run)

    async def _body(self, request: web.Request, *, empty: bool = False) -> Any:
        body = await request.read()
        if empty and not body.strip():
            return {}
        if "yaml" in request.headers.get("Content-Type", "") and body.lstrip()[:1] not in (
            b"{",
            b"[",
        ):
            return parse_yaml(body.decode())[0]
        return orjson.loads(body)

    async def _logs(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        pod = self.store.get(self.store.kinds["", "pods"], namespace, name)
        if pod is None:
            raise Failure(404, "NotFound", f'pods "{name}" not found')
        names = [c["name"] for c in pod["spec"].get("containers") or []]
        container = request.query.get("container") or names[0]
        if container not in names:
            raise Failure(400, "BadRequest", f"container {container} is not valid for pod {name}")
        tail = request.query.get("tailLines", "3")
        if not tail.isascii() or not tail.isdigit():
            raise Failure(422, "Invalid", f"tailLines: {tail!r} must be greater than or equal to 0")
        if request.query.get("previous") == "true":
            raise Failure(
                400,
                "BadRequest",
                f'previous terminated container "{container}" in pod "{name}" not found',
            )
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        number, follow = max(0, 3 - int(tail)), request.query.get("follow") == "true"
        while number < 3 or follow:
            number += 1
            stamp = (
                f"{pod['metadata']['creationTimestamp']} "
                if request.query.get("timestamps") == "true"
                else ""
            )
            await answer.write(f"{stamp}line {number} of {namespace}/{name}/{container}\n".encode())
            if number >= 3:
                await asyncio.sleep(1 if follow else 0)
        return answer


def _manager(request: web.Request) -> str:
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return str(request.query.get("fieldManager") or agent)


def _partial(manifest: Manifest) -> Manifest:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": manifest["metadata"],
    }


def _selected(manifest: Manifest, text: str) -> bool:
    try:
        return selector(text)(manifest["metadata"].get("labels") or {})
    except Invalid as error:
        raise Failure(400, "BadRequest", str(error)) from error


def _field_selected(manifest: Manifest, text: str) -> bool:
    for part in text.split(","):
        path, _, value = part.partition("=")
        found: Any = manifest
        for step in path.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        if str(found or "") != value.lstrip("="):
            return False
    return True
