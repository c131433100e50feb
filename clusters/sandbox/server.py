"""Serve sandbox clusters over HTTP, for the hub and kubectl, as any cluster."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clusters.sandbox.controllers import Controllers, is_service_token
from clusters.sandbox.kinds import Served
from clusters.sandbox.store import Failure, Store
from clusters.sandbox.types import document_of
from hub.engine.errors import Invalid, ManifestError
from hub.engine.kubernetes_yaml import parse_yaml
from hub.engine.parsing import parse_digits
from hub.engine.resource import Manifest, is_builtin
from hub.rest.views import selector

log = logging.getLogger(__name__)

VERSION = "v1.36.0-sandbox"
BOOKMARK_SECONDS = 60


def _json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def _failure(failure: Failure) -> web.Response:
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
        """While true every request fails, as with a cluster that is away."""
        self.controllers = Controllers(self.store)

    async def handle(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer one request."""
        if self.down:
            if request.transport:
                request.transport.abort()
            return web.Response(status=503)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != self.token and not (token and is_service_token(self.store, token)):
            return _failure(Failure(401, "Unauthorized", "Unauthorized"))
        try:
            return await self._route(request, [p for p in path.split("/") if p])
        except Failure as failure:
            return _failure(failure)
        except (
            ManifestError,
            orjson.JSONDecodeError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            return _failure(Failure(400, "BadRequest", f"the body cannot be read: {error!r}"))

    async def _route(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        match parts:
            case ["version"]:
                return _json(
                    {"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "linux/amd64"}
                )
            case ["healthz" | "readyz" | "livez"]:
                return web.Response(text="ok")
            case ["openapi", "v3", *rest]:
                return _json(self._openapi("/".join(rest)))
            case ["api"]:
                return self._discovery(request, core=True)
            case ["apis"]:
                return self._discovery(request, core=False)
            case ["api", version]:
                return _json(self._resources("", version))
            case ["apis", group, version]:
                return _json(self._resources(group, version))
            case ["api", "v1", *rest]:
                return await self._resource(request, "", rest)
            case ["apis", group, _version, *rest]:
                return await self._resource(request, group, rest)
        raise Failure(404, "NotFound", "the server could not find the requested resource")

    def _openapi(self, path: str) -> Any:
        # Just enough for kubectl to detect server-side field validation.
        roots = {
            (f"apis/{k.group}/{k.version}" if k.group else f"api/{k.version}")
            for k in self.store.kinds.values()
        }
        if not path:
            return {
                "paths": {
                    root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in sorted(roots)
                }
            }
        kinds = [
            k
            for k in self.store.kinds.values()
            if path in (f"apis/{k.group}/{k.version}", f"api/{k.version}")
        ]
        parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
        schemas = [(k, self.store.schema(k)) for k in kinds if not is_builtin(k.group)]
        return {
            **document_of(schemas),
            "openapi": "3.0.0",
            "info": {"title": self.name, "version": VERSION},
            "paths": {
                f"/{path}/{k.plural}/{{name}}": {
                    "patch": {
                        "parameters": parameters,
                        "responses": {},
                        "x-kubernetes-group-version-kind": {
                            "group": k.group,
                            "version": k.version,
                            "kind": k.kind,
                        },
                    }
                }
                for k in kinds
            },
        }

    def _discovery(self, request: web.Request, *, core: bool) -> web.Response:
        kinds = [k for k in self.store.kinds.values() if (k.group == "") == core]
        if "APIGroupDiscoveryList" in request.headers.get("Accept", ""):
            body = {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": "apidiscovery.k8s.io/v2",
                "metadata": {},
                "items": [_group_discovery(g, kinds) for g in sorted({k.group for k in kinds})],
            }
            content_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return web.Response(body=orjson.dumps(body), headers={"Content-Type": content_type})
        if core:
            return _json({"kind": "APIVersions", "versions": ["v1"]})
        groups = []
        for group, version in sorted({(k.group, k.version) for k in kinds}):
            entry = {"groupVersion": f"{group}/{version}", "version": version}
            groups.append({"name": group, "versions": [entry], "preferredVersion": entry})
        return _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    def _resources(self, group: str, version: str) -> Any:
        kinds = [k for k in self.store.kinds.values() if (k.group, k.version) == (group, version)]
        if not kinds:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": kinds[0].api_version,
            "resources": [
                {
                    "name": k.plural,
                    "singularName": k.kind.lower(),
                    "namespaced": k.namespaced,
                    "kind": k.kind,
                    "verbs": list(k.verbs),
                    "shortNames": list(k.short),
                }
                for k in kinds
            ],
        }

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


def _subresources(kind: Served) -> list[Any]:
    if kind.plural not in ("deployments", "replicasets", "statefulsets"):
        return []
    response = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return [{"subresource": "scale", "responseKind": response, "verbs": ["get", "patch", "update"]}]


def _group_discovery(group: str, kinds: list[Served]) -> Any:
    versions: dict[str, list[Any]] = {}
    for k in kinds:
        if k.group == group:
            versions.setdefault(k.version, []).append(
                {
                    "resource": k.plural,
                    "singularResource": k.kind.lower(),
                    "verbs": list(k.verbs),
                    "shortNames": list(k.short),
                    "scope": "Namespaced" if k.namespaced else "Cluster",
                    "responseKind": {"group": group, "version": k.version, "kind": k.kind},
                    "subresources": _subresources(k),
                }
            )
    return {
        "metadata": {"name": group},
        "versions": [
            {"version": v, "freshness": "Current", "resources": r} for v, r in versions.items()
        ],
    }


def make_certificate() -> str:
    """Return a new key and self-signed certificate for 127.0.0.1 as PEM.

    kubectl sends no token without TLS.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flotilla-sandbox")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=True,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode() + certificate.public_bytes(serialization.Encoding.PEM).decode()


class SandboxServer:
    """Several sandboxes behind one listener on loopback, in a thread of their own."""

    def __init__(self, port: int = 0, folder: Path | None = None, pair: str = "") -> None:
        self.port, self.folder, self._pair = port, folder, pair or make_certificate()
        self.certificate = self._pair[self._pair.index("-----BEGIN CERTIFICATE") :]
        self.sandboxes: dict[str, Sandbox] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._wanted: dict[str, str] = {}

    def add(self, name: str, token: str) -> None:
        """Add a sandbox with this name; call before `start`."""
        self._wanted[name] = token

    def url(self, name: str) -> str:
        """Return the server URL of a sandbox."""
        return f"https://127.0.0.1:{self.port}/clusters/{name}"

    def start(self) -> None:
        """Start serving; returns when the port is open.

        Raises: OSError when the port is taken.
        """
        ready = threading.Event()
        failure: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._main(ready))
            except BaseException as error:
                failure.append(error)
                ready.set()

        self._thread = threading.Thread(target=run, name="sandbox", daemon=True)
        self._thread.start()
        ready.wait(20)
        if failure:
            raise failure[0]

    def stop(self) -> None:
        """Save and end."""
        if self._loop and self._stop and self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(8)

    async def _main(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        tasks = []
        for name, token in self._wanted.items():
            path = self.folder / f"sandbox-{name}.json" if self.folder else None
            sandbox = self.sandboxes[name] = Sandbox(name, token, path)
            tasks.append(asyncio.create_task(sandbox.controllers.run()))
        tasks.append(asyncio.create_task(self._keep_saving()))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/clusters/{name}/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls())
        await site.start()
        sockets = site._server.sockets if site._server else []
        self.port = sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await runner.cleanup()
        self._save()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(self._pair)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        sandbox = self.sandboxes.get(request.match_info["name"])
        if sandbox is None:
            return _failure(Failure(404, "NotFound", "no such sandbox"))
        with contextlib.suppress(ConnectionResetError):
            return await sandbox.handle(request, request.match_info["path"])
        return web.Response(status=499)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._save()

    def _save(self) -> None:
        for sandbox in self.sandboxes.values():
            try:
                sandbox.store.save()
            except OSError:
                log.exception("the state of sandbox %s could not be saved", sandbox.name)
