"""The demonstration: a local Git repository and four applications on two sandbox clusters."""

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Any

import git
from django.conf import settings
from django.contrib.auth.hashers import make_password

from clusters.models import Cluster
from clusters.sandbox.certificate import make_certificate
from clusters.sandbox.server import SandboxServer
from hub.events.queue import wake
from hub.events.task_names import TaskName
from hub.models import Account, new_password
from projects.models import Application
from projects.objects import applications
from projects.objects.specs import default_project

NAMES = ("east", "west")

_FILES = {
    "nginx/all.yaml": """\
apiVersion: v1
kind: Namespace
metadata:
  name: nginx
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx
  namespace: nginx
  labels: {app: nginx}
spec:
  replicas: 2
  selector:
    matchLabels: {app: nginx}
  template:
    metadata:
      labels: {app: nginx}
    spec:
      containers:
        - name: nginx
          image: nginx:1.27
          ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata:
  name: nginx
  namespace: nginx
spec:
  type: LoadBalancer
  selector: {app: nginx}
  ports: [{port: 80, targetPort: 80}]
""",
    "shop/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: '2.4'\n",
    "shop/values.yaml": "replicas: 1\nimage: registry.example/shop\ngreeting: hello\n",
    "shop/templates/all.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  greeting: {{ .Values.greeting | quote }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels: {app: {{ .Release.Name }}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
    spec:
      containers:
        - name: shop
          image: "{{ .Values.image }}:{{ .Chart.AppVersion }}"
""",
    "billing/base/kustomization.yaml": """\
resources: [deployment.yaml]
configMapGenerator:
  - name: billing
    literals: [currency=EUR]
""",
    "billing/base/deployment.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: billing
spec:
  replicas: 1
  selector:
    matchLabels: {app: billing}
  template:
    metadata:
      labels: {app: billing}
    spec:
      containers:
        - name: billing
          image: registry.example/billing:1.0
          envFrom: [{configMapRef: {name: billing}}]
""",
    "billing/production/kustomization.yaml": """\
resources: [../base]
namePrefix: prod-
replicas:
  - name: billing
    count: 2
""",
    "search/main.jsonnet": """\
local workload = import '../lib/workload.libsonnet';
function(replicas='1')
  [workload.deployment('search', 'registry.example/search:3.1', std.parseInt(replicas))]
""",
    "lib/workload.libsonnet": """\
{
  deployment(name, image, replicas): {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: name },
    spec: {
      replicas: replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: name, image: image }] },
      },
    },
  },
}
""",
}


def make_repository(folder: Path) -> str:
    """Create the repository of the demonstration unless it exists, and return its URL."""
    if not (folder / ".git").exists():
        for name, text in _FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        repository = git.Repo.init(folder, initial_branch="main")
        repository.git.add("-A")
        author = (
            "-c",
            "user.name=demo",
            "-c",
            "user.email=demo@localhost",
            "-c",
            "commit.gpgsign=false",
        )
        repository.git.execute(["git", *author, "commit", "-q", "-m", "Add the demonstration"])
        repository.close()
    return f"file://{folder}"


def start_sandboxes(folder: Path) -> SandboxServer | None:
    """Start the existing sandboxes, or return None without any."""
    path = folder / "sandbox.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    server = SandboxServer(kept["port"], folder, kept["pair"])
    for name, token in kept["tokens"].items():
        server.add(name, token)
    server.start()
    return server


def make_sandboxes(folder: Path) -> SandboxServer:
    """Start the two sandboxes of the demonstration; port and tokens are stored for later starts."""
    server = start_sandboxes(folder)
    if server is not None:
        return server
    pair = make_certificate()
    tokens = {name: secrets.token_urlsafe(24) for name in NAMES}
    server = SandboxServer(0, folder, pair)
    for name, token in tokens.items():
        server.add(name, token)
    server.start()
    descriptor = os.open(folder / "sandbox.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"port": server.port, "pair": pair, "tokens": tokens}, file)
    for name, token in tokens.items():
        config = {"bearerToken": token, "tlsClientConfig": {"caData": server.certificate}}
        cluster, _ = Cluster.objects.update_or_create(
            server=server.url(name),
            defaults={
                "name": name,
                "config": config,
                "labels": {"env": "production" if name == "east" else "staging"},
            },
        )
        wake(TaskName.CLUSTERS_CHANGED, cluster.pk)
        _write_kubeconfig(folder, server, name, token)
    return server


def _write_kubeconfig(folder: Path, server: SandboxServer, name: str, token: str) -> None:
    authority = base64.b64encode(server.certificate.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server.url(name), "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    descriptor = os.open(
        folder / f"kubeconfig-{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    with os.fdopen(descriptor, "w") as file:
        json.dump(config, file)


def seed(folder: Path) -> None:
    """Create the four applications, unless they exist."""
    default_project()
    url = make_repository(folder / "demo" / "repository")
    wanted: list[tuple[str, str, str, dict[str, Any]]] = [
        ("nginx", "east", "nginx", {"path": "nginx"}),
        (
            "shop",
            "east",
            "shop",
            {"path": "shop", "helm": {"parameters": [{"name": "replicas", "value": "2"}]}},
        ),
        ("billing", "west", "billing", {"path": "billing/production"}),
        (
            "search",
            "west",
            "search",
            {
                "path": "search",
                "directory": {"jsonnet": {"tlas": [{"name": "replicas", "value": "2"}]}},
            },
        ),
    ]
    for name, cluster, namespace, source in wanted:
        if Application.objects.filter(namespace=settings.NAMESPACE, name=name).exists():
            continue
        spec = {
            "project": "default",
            "source": {"repoURL": url, "targetRevision": "main", **source},
            "destination": {"name": cluster, "namespace": namespace},
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": ["CreateNamespace=true"],
            },
        }
        applications.create(applications.Wanted(settings.NAMESPACE, name, spec), "demonstration")


def make_admin(folder: Path) -> Path:
    """Create the account `admin` with a generated password, and return the path of its file.

    Only the owner can read the file.
    """
    path = folder / "initial-admin-password"
    if Account.objects.filter(name="admin").exists():
        return path
    password = new_password()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    Account.objects.create(name="admin", password=make_password(password), capabilities=["login"])
    return path
