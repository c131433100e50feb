"""The command line: Argo CD's walkthrough, its verbs, an installation taken over; and what it says
when something is wrong.
"""

import base64
import json
import stat
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.command import Command
from support.web import Web, deployment

from clusters.sandbox.certificate import make_certificate
from hub.cli import appspec, config, configmaps, main
from hub.cli.problem import Problem
from hub.models import Account, AuditEvent, LoginSession
from projects.models import Application, Project


@pytest.fixture
def secure(hub, tmp_path):
    """A hub that works, by TLS with a certificate that nobody trusts."""
    file = tmp_path / "pair.pem"
    file.write_text(make_certificate())
    server = Web(str(file))
    server.hub, server.pair = hub, file
    yield server
    server.close()


@pytest.fixture
def flotilla(site, tmp_path):
    """The command, signed in at a hub that works."""
    return Command(tmp_path, FLOTILLA_SERVER=site.url, FLOTILLA_TOKEN=site.hub.token)


@pytest.mark.controlplane
def test_the_walkthrough_of_argo_cd(secure, genuine, repo, namespace, tmp_path):
    """Every command is Argo CD's, with another name in front."""
    hub, flotilla = secure.hub, Command(tmp_path / "c")
    (tmp_path / "initial-admin-password").write_text("correct horse\n")
    password = flotilla("admin", "initial-password", "--data", str(tmp_path)).strip()
    host = secure.url.removeprefix("https://")
    no = flotilla.refused("login", host, "--username", "admin", "--password", password, stdin="n\n")
    assert "the certificate is not trusted" in no
    said = flotilla("login", host, "--username", "admin", "--password", password, stdin="y\n")
    assert "server certificate had error" in said and "'admin' logged in successfully" in said
    file = tmp_path / "c" / "config"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert flotilla("context").splitlines()[1].split() == ["*", host, f"https://{host}"]

    repo.commit({"nginx/d.yaml": deployment(1)})
    flotilla(
        "app",
        "create",
        "nginx",
        "--repo",
        repo.url,
        "--path",
        "nginx",
        "--revision",
        "main",
        "--dest-server",
        genuine.server,
        "--dest-namespace",
        namespace,
        "--sync-option",
        "CreateNamespace=true",
    )
    hub.wait_status("nginx", "OutOfSync")
    head, row = (line.split() for line in flotilla("app", "list").splitlines())
    assert head == [
        "NAME",
        "CLUSTER",
        "NAMESPACE",
        "PROJECT",
        "STATUS",
        "HEALTH",
        "SYNCPOLICY",
        "CONDITIONS",
        "REPO",
        "PATH",
        "TARGET",
    ]
    assert row == [
        "argocd/nginx",
        genuine.server,
        namespace,
        "default",
        "OutOfSync",
        "Missing",
        "Manual",
        "<none>",
        repo.url,
        "nginx",
        "main",
    ]
    said = flotilla("app", "sync", "nginx", "--timeout", "60")
    assert "Phase:              Succeeded" in said and "Deployment" in said and "TIMESTAMP" in said
    hub.wait_status("nginx", "Synced")
    assert flotilla("app", "diff", "nginx") == ""

    hub.push(repo, {"nginx/d.yaml": deployment(2)})
    hub.wait_status("nginx", "OutOfSync")
    shown = flotilla.run("app", "diff", "nginx", code=1).stdout
    assert f"===== apps/Deployment {namespace}/web ======" in shown
    assert "-  replicas: 1" in shown and "+  replicas: 2" in shown
    flotilla("app", "diff", "nginx", "--exit-code=false")
    flotilla.refused("app", "diff", "absent", code=2)
    flotilla("app", "set", "nginx", "--sync-policy", "automated")
    hub.wait_status("nginx", "Synced")
    assert genuine.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 2
    said = flotilla("app", "get", "nginx", "--show-operation")
    assert (
        "Sync Policy:        Automated\n" in said and "Sync Status:        Synced to main (" in said
    )
    lines = flotilla("app", "history", "nginx").splitlines()
    assert lines[0] == f"SOURCE  {repo.url}" and lines[1].split() == ["ID", "DATE", "REVISION"]
    first = flotilla("app", "history", "nginx", "-o", "id").split()[0]
    assert "auto-sync" in flotilla.refused("app", "rollback", "nginx", first)
    flotilla("app", "set", "nginx", "--sync-policy", "none")
    flotilla("app", "rollback", "nginx", first, "--timeout", "60")
    assert genuine.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 1
    flotilla("app", "delete", "nginx", "--yes", "--wait", "--set-finalizer=false")
    assert not Application.objects.exists()
    for verb in ("create", "sync", "update", "rollback", "delete"):
        assert AuditEvent.objects.filter(verb=verb, kind="application", actor="admin").exists(), (
            verb
        )
    flotilla("logout")
    assert LoginSession.objects.filter(ended_at=None).count() == 1  # the test's own
    assert "no session information" in flotilla.refused("app", "list")


def test_the_verbs_of_applications(flotilla, hub, sandbox, repo, namespace, tmp_path):
    files = {
        "a/d.yaml": deployment(1),
        "b/c.yaml": json.dumps(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        ),
    }
    repo.commit(files)
    file = tmp_path / "app.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "kind": "Application",
                "metadata": {"name": "web", "labels": {"team": "a"}},
                "spec": {
                    "project": "default",
                    "source": {"repoURL": repo.url, "path": "a", "targetRevision": "main"},
                    "destination": {"name": "east", "namespace": namespace},
                    "syncPolicy": {"syncOptions": ["CreateNamespace=true"]},
                },
            }
        )
    )
    assert flotilla("app", "create", "-f", str(file)) == "application 'web' created\n"
    assert "exist" in flotilla.refused(
        "app", "create", "-f", str(file), "--dest-namespace", "other"
    )
    hub.wait_status("web", "OutOfSync")
    flotilla("app", "sync", "-l", "team=a", "--async")
    flotilla("app", "wait", "web", "--timeout", "60")
    assert flotilla("app", "list", "-o", "name", "-l", "team=a", "-c", "east") == "argocd/web\n"
    assert flotilla("app", "list", "-l", "team=b", "-o", "name") == ""
    assert "Deployment/web" in flotilla("app", "get", "web", "-o", "tree")
    assert "└─Pod" in flotilla("app", "resources", "web", "--output", "tree=detailed")
    assert "Deployment" in flotilla("app", "resources", "web")
    assert json.loads(flotilla("app", "get", "web", "-o", "json"))["metadata"]["name"] == "web"
    assert "replicas: 1" in flotilla("app", "manifests", "web")
    assert "uid:" in flotilla("app", "manifests", "web", "--source", "live")
    assert "kind: Deployment" in flotilla("app", "get-resource", "web", "--kind", "Deployment")
    assert "restart" in flotilla("app", "actions", "list", "web", "--kind", "Deployment")
    flotilla(
        "app", "actions", "run", "web", "scale", "--kind", "Deployment", "--param", "replicas=3"
    )
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 3,
        "the scaling",
    )
    flotilla(
        "app",
        "patch-resource",
        "web",
        "--kind",
        "Deployment",
        "--patch",
        '{"spec": {"replicas": 4}}',
    )
    hub.wait(
        lambda: sandbox.get("apps", "Deployment", namespace, "web")["spec"]["replicas"] == 4,
        "the patch",
    )
    hub.wait_status("web", "OutOfSync")
    said = flotilla(
        "app", "sync", "web", "--resource", "apps:Deployment:web", "--preview-changes", "-y"
    )
    assert "+  replicas: 1" in said and "Succeeded" in said
    hub.wait(
        lambda: "web" in flotilla("app", "logs", "web", "--kind", "Deployment", "--tail", "5"),
        "logs",
    )
    assert "GROUP:KIND:NAME" in flotilla.refused("app", "sync", "web", "--resource", "Deployment")
    assert "no resource" in flotilla.refused("app", "delete-resource", "web", "--kind", "Absent")
    flotilla("app", "delete-resource", "web", "--kind", "Deployment", "--group", "apps")
    hub.wait(lambda: sandbox.get("apps", "Deployment", namespace, "web") is None, "the deletion")
    said = flotilla(
        "app", "patch", "web", "--type", "merge", "--patch", '{"metadata": {"labels": {"x": "y"}}}'
    )
    assert yaml.safe_load(said)["metadata"]["labels"]["x"] == "y"
    flotilla(
        "app",
        "add-source",
        "web",
        "--repo",
        repo.url,
        "--path",
        "b",
        "--revision",
        "main",
        "--source-name",
        "second",
    )
    assert len(Application.objects.get().sources) == 2
    flotilla("app", "set", "web", "--source-position", "1", "--directory-recurse")
    assert Application.objects.get().sources[0]["directory"] == {"recurse": True}
    assert "must be 1 to 2" in flotilla.refused("app", "set", "web", "--path", "x")
    flotilla("app", "remove-source", "web", "--source-name", "second")
    script = tmp_path / "edit"
    script.write_text(
        "#!/bin/sh\n"
        "sed -i 's/revisionHistoryLimit.*//; s/targetRevision: main/targetRevision: HEAD/' "
        '"$1"\n'
    )
    script.chmod(0o755)
    flotilla("app", "edit", "web", EDITOR=str(script))
    assert Application.objects.get().sources[0]["targetRevision"] == "HEAD"
    assert "nothing was changed" in flotilla.refused("app", "edit", "web", EDITOR="false")
    flotilla("app", "unset", "web", "--ref")
    flotilla("app", "delete", "web", "--yes", "--cascade=false", "--wait")
    assert sandbox.get("", "Namespace", "", namespace) is not None
    assert "timed out (1s)" in _stuck(flotilla, repo)


def _stuck(flotilla, repo):
    flotilla(
        "app",
        "create",
        "stuck",
        "--repo",
        repo.url,
        "--path",
        "b",
        "--revision",
        "main",
        "--dest-name",
        "east",
        "--dest-namespace",
        "default",
    )
    return flotilla.refused("app", "wait", "stuck", "--sync", "--timeout", "1")


def test_projects_by_flags(flotilla):
    flotilla(
        "proj",
        "create",
        "team",
        "-d",
        "https://kubernetes.default.svc,argocd",
        "-s",
        "https://git.example/*",
        "--description",
        "Ours",
    )
    rows = [line.split() for line in flotilla("proj", "list").splitlines()]
    assert rows[0][:4] == ["NAME", "DESCRIPTION", "DESTINATIONS", "SOURCES"]
    assert [
        "team",
        "Ours",
        "https://kubernetes.default.svc,argocd",
        "https://git.example/*",
        "<none>",
        "<none>",
        "<none>",
        "disabled",
        "<none>",
    ] in rows
    for words in (
        ("add-destination", "https://kubernetes.default.svc", "other"),
        ("add-source", "https://git.example/x"),
        ("allow-cluster-resource", "", "Namespace"),
        ("deny-namespace-resource", "", "Secret"),
        ("add-source-namespace", "apps"),
        ("add-signature-key", "4AEE18F83AFDEB23"),
        ("add-orphaned-ignore", "", "ConfigMap"),
        (
            "add-destination-service-account",
            "https://kubernetes.default.svc",
            "argocd",
            "ns:deployer",
        ),
    ):
        flotilla("proj", words[0], "team", *words[1:])
        assert "already" in flotilla.refused("proj", words[0], "team", *words[1:])
    flotilla("proj", "set", "team", "--description", "New")
    flotilla("proj", "remove-source", "team", "https://git.example/x")
    flotilla("proj", "remove-destination", "team", "https://kubernetes.default.svc", "other")
    flotilla("proj", "role", "create", "team", "ci")
    flotilla("proj", "role", "add-policy", "team", "ci", "-a", "sync", "-o", "web")
    flotilla("proj", "role", "add-group", "team", "ci", "builders")
    token = flotilla(
        "proj", "role", "create-token", "team", "ci", "-e", "1h", "--id", "one", "--token-only"
    ).strip()
    assert token.count(".") == 2 and "one" in flotilla("proj", "role", "get", "team", "ci")
    assert "proj:team:ci" in flotilla("account", "get-user-info", FLOTILLA_TOKEN=token)
    flotilla("proj", "role", "delete-token", "team", "ci", "one")
    assert "one" not in flotilla("proj", "role", "list-tokens", "team", "ci")
    flotilla(
        "proj",
        "windows",
        "add",
        "team",
        "-k",
        "deny",
        "--schedule",
        "0 22 * * *",
        "--duration",
        "1h",
        "--applications",
        "*",
    )
    flotilla("proj", "windows", "enable-manual-sync", "team", "0")
    flotilla("proj", "windows", "update", "team", "0", "--duration", "2h")
    row = flotilla("proj", "windows", "list", "team").splitlines()[1].split()
    assert row[2:3] == ["deny"] and "2h" in row and "Enabled" in row
    assert "no window 7" in flotilla.refused("proj", "windows", "delete", "team", "7")
    flotilla("proj", "windows", "delete", "team", "0")
    spec = Project.objects.get(name="team").spec
    assert "syncWindows" not in spec and spec["description"] == "New"
    assert spec["roles"] == [
        {
            "name": "ci",
            "policies": ["p, proj:team:ci, applications, sync, team/web, allow"],
            "groups": ["builders"],
        }
    ]
    flotilla("proj", "delete", "team")
    assert "SERVER,NAMESPACE" in flotilla.refused("proj", "create", "x", "-d", "here")


def test_accounts_repositories_and_keys(flotilla, hub, repo, tmp_path):
    assert flotilla("account", "can-i", "sync", "applications", "*/*") == "yes\n"
    assert "Logged In: true" in flotilla("account", "get-user-info")
    Account.objects.create(name="bot", password="!", capabilities=["apiKey"])
    token = flotilla("account", "generate-token", "-a", "bot", "--id", "t", "-e", "1h").strip()
    assert "Username: bot" in flotilla("account", "get-user-info", FLOTILLA_TOKEN=token)
    assert "t " in flotilla("account", "get", "-a", "bot")
    flotilla("account", "delete-token", "t", "-a", "bot")
    assert "flotilla relogin" in flotilla.refused("app", "list", FLOTILLA_TOKEN=token)
    repo.commit({"a.yaml": "{}"})
    flotilla("repo", "add", repo.url, "--name", "mine")
    assert repo.url in flotilla("repo", "list", "--refresh", "hard")
    assert "Successful" in flotilla("repo", "get", repo.url)
    flotilla(
        "repocreds", "add", "https://git.example/team", "--username", "u", "--password", "CANARY"
    )
    assert "CANARY" not in flotilla("repocreds", "list", "-o", "json")
    flotilla("repocreds", "rm", "https://git.example/team")
    flotilla("repo", "rm", repo.url)
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "git.example ssh-ed25519 "
        "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"
    )
    flotilla("cert", "add-ssh", "--from", str(hosts))
    assert "git.example" in flotilla("cert", "list", "--hostname-pattern", "*.example")
    flotilla("cert", "rm", "git.example")
    assert "not a known host" in flotilla.refused("cert", "rm", "git.example")
    assert "KEYID" in flotilla("gpg", "list")
    assert "in-cluster" in flotilla("cluster", "list")
    assert yaml.safe_load(flotilla("cluster", "get", "in-cluster"))["name"] == "in-cluster"
    assert "flotilla-server: v" in flotilla("version")
    assert json.loads(flotilla("version", "--client", "-o", "json"))["client"]["Version"]


def test_what_is_wrong_is_one_sentence(tmp_path):
    flotilla = Command(tmp_path)
    assert "flotilla login" in flotilla.refused("app", "list")
    assert "does not answer" in flotilla.refused(
        "app", "list", "--server", "http://127.0.0.1:1", "--auth-token", "x"
    )
    assert "no context" in flotilla.refused("app", "list", "--argocd-context", "x")
    assert "--core is not served" in flotilla.refused("--core", "app", "list")
    assert "needs a value" in flotilla.refused("app", "list", "--server")
    assert "Name: value" in flotilla.refused("app", "list", "-H", "x")
    (tmp_path / "config").write_text("[")
    (tmp_path / "config").chmod(0o600)
    assert "no YAML" in flotilla.refused("context")
    (tmp_path / "config").write_text("contexts: []")
    (tmp_path / "config").chmod(0o644)
    assert "chmod 600" in flotilla.refused("context")
    assert "No such option" in flotilla.run("app", "list", "--nonsense", code=2).stderr
    for shell in ("bash", "zsh", "fish"):
        assert "_FLOTILLA_COMPLETE" in flotilla("completion", shell)
    found = flotilla(
        "app", _FLOTILLA_COMPLETE="complete_bash", COMP_WORDS="flotilla app hist", COMP_CWORD="2"
    )
    assert found.split() == ["history"]


def test_contexts_and_the_token_that_ended(hub, live_server, tmp_path):
    flotilla = Command(tmp_path)
    for name in ("one", "two"):
        flotilla(
            "login",
            live_server.url,
            "--username",
            "admin",
            "--password",
            "correct horse",
            "--name",
            name,
        )
    assert [line.split()[0] for line in flotilla("context").splitlines()[1:]] == ["one", "*"]
    flotilla("context", "one")
    flotilla("context", "-")
    assert flotilla("context").splitlines()[2].startswith("*")
    LoginSession.objects.update(ended_at="2026-01-01T00:00:00Z")
    assert "flotilla relogin" in flotilla.refused("app", "list")
    flotilla("relogin", "--password", "correct horse")
    assert "NAME" in flotilla("app", "list")
    assert "Invalid username or password" in flotilla.refused("relogin", "--password", "wrong")
    flotilla("context", "two", "--delete")
    assert "no context 'two'" in flotilla.refused("context", "two")
    assert "is this a hub?" in flotilla.refused(
        "login", live_server.url + "/login", "--username", "a", "--password", "b"
    )


@pytest.mark.parametrize("words", [["version", "--client"], ["--help"], ["app", "sync", "--help"]])
def test_it_starts_without_what_it_does_not_need(words):
    """Nothing slow is read before a command needs it; tests/bench/start.py says what a start
    costs.
    """
    code = (
        f"import json, sys\nsys.argv = ['flotilla', *{words}]\nfrom hub.cli.main import run\ntry:\n"
        "    run()\nexcept SystemExit:\n    pass\nprint(json.dumps(sorted(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    read = set(json.loads(said.splitlines()[-1]))

    assert not read & {"django", "pydantic", "httpx", "ssl", "yaml", "pygments", "markdown_it"}
    assert "typer" in read


EXPORT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, labels: {app.kubernetes.io/part-of: argocd}}
data:
  url: https://argocd.example
  accounts.bot: apiKey
  resource.customizations.health.example.com_Widget: |
    return {status = "Healthy"}
  resource.customizations.ignoreDifferences.apps_Deployment: |
    jsonPointers: [/spec/replicas]
  resource.exclusions: |
    - apiGroups: [example.com]
      kinds: [Noise]
  ui.bannercontent: We are moving
  kustomize.path.v3: /x
  admin.enabled: "false"
  resource.respectRBAC: strict
  oidc.config: |
    name: Company
    issuer: https://sign-in.example
    clientID: hub
    clientSecret: $oidc.clientSecret
---
apiVersion: v1
kind: Secret
metadata: {name: cluster-aws, labels: {argocd.argoproj.io/secret-type: cluster}}
stringData:
  name: aws
  server: https://aws.example
  config: '{"awsAuthConfig": {"clusterName": "c"}}'
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-rbac-cm}
data: {policy.csv: "p, role:dev, applications, get, */*, allow\\n", policy.default: role:readonly}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-notifications-cm}
data: {trigger.on-sync: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-ssh-known-hosts-cm}
data: {ssh_known_hosts: "git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\\n"}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: web
  namespace: argocd
  finalizers: [resources-finalizer.argocd.argoproj.io]
spec:
  project: team
  source: {repoURL: "%(repo)s", path: a, targetRevision: main}
  destination: {server: "%(server)s", namespace: "%(namespace)s"}
  syncPolicy: {automated: {}, syncOptions: [CreateNamespace=true]}
status: {health: {status: Healthy}}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: team}
spec:
  sourceRepos: ['*']
  destinations: [{server: '*', namespace: '*'}]
  clusterResourceWhitelist: [{group: '*', kind: '*'}]
  roles: [{name: ci, policies: ["p, proj:team:ci, applications, sync, team/*, allow"], jwtTokens: [{iat: 1}]}]
---
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: many}
spec:
  generators: [{list: {elements: [{name: one}]}}]
  template:
    metadata: {name: 'set-{{name}}'}
    spec:
      project: team
      source: {repoURL: "%(repo)s", path: b, targetRevision: main}
      destination: {server: "%(server)s", namespace: "%(namespace)s"}
---
apiVersion: v1
kind: Secret
metadata: {name: cluster-x, labels: {argocd.argoproj.io/secret-type: cluster, env: test}}
data: {name: "%(cluster_name)s", server: "%(cluster_server)s", config: "%(cluster_config)s"}
---
apiVersion: v1
kind: Secret
metadata: {name: repo-x, labels: {argocd.argoproj.io/secret-type: repository}}
stringData: {url: "%(repo)s", type: git, name: deploy}
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret}
stringData: {admin.password: hash, webhook.github.secret: s}
"""


@pytest.mark.controlplane
def test_an_installation_moves_in(flotilla, hub, control_plane, repo, namespace, tmp_path):
    """An export of Argo CD is taken in and deploys; exported again and imported again it changes
    nothing.
    """

    def text(value):
        return base64.b64encode(value.encode()).decode()

    repo.commit(
        {
            "a/d.yaml": deployment(1),
            "b/c.yaml": json.dumps(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
            ),
        }
    )
    credentials = {
        "bearerToken": "admin-token",
        "tlsClientConfig": {"caData": text(control_plane["ca"])},
    }
    file = tmp_path / "export.yaml"
    file.write_text(
        EXPORT
        % {
            "repo": repo.url,
            "server": control_plane["server"],
            "namespace": namespace,
            "cluster_name": text("genuine"),
            "cluster_server": text(control_plane["server"]),
            "cluster_config": text(json.dumps(credentials)),
        }
    )
    said = flotilla("admin", "import", str(file), "--dry-run")
    assert "Application web created (dry run)" in said and not Application.objects.exists()
    assert "cluster aws kept back" in said and "identity provider oidc kept back" in said
    said = flotilla("admin", "import", str(file))
    for line in (
        "AppProject team created",
        "Application web created",
        "ApplicationSet many created",
        "cluster genuine created",
        f"repository {repo.url} created",
        "setting health updated",
        (
            "ConfigMap argocd-cm url kept back: the hub takes it from its environment: "
            "HUB_EXTERNAL_URL=https://argocd.example"
        ),
        "ConfigMap argocd-cm kustomize.path.v3 kept back",
        "ConfigMap argocd-cm admin.enabled kept back",
        "ConfigMap argocd-cm resource.respectRBAC kept back",
        "identity provider oidc kept back: its secret is in $oidc.clientSecret",
        "cluster aws kept back: its config.awsAuthConfig would run a program on the hub",
        "ConfigMap argocd-notifications-cm trigger.on-sync kept back",
        "AppProject team tokens of ci kept back",
        "account bot kept back",
        (
            "Secret argocd-secret webhook.github.secret kept back: the hub takes it from its "
            "environment: HUB_WEBHOOK_GITHUB_SECRET"
        ),
        "ConfigMap argocd-rbac-cm created",
    ):
        assert line in said, f"{line}\n{said}"
    hub.wait_status("web", "Synced", seconds=60)
    assert "ghp_" not in said and "admin-token" not in said
    hub.wait(lambda: Application.objects.filter(name="set-one").exists(), "the set")
    out = tmp_path / "again.yaml"
    flotilla("admin", "export", "-o", str(out))
    first = list(yaml.safe_load_all(out.read_text()))
    assert "admin-token" not in out.read_text()
    kinds = [d["kind"] for d in first]
    assert kinds == sorted(
        kinds, key=["ConfigMap", "Secret", "AppProject", "Application", "ApplicationSet"].index
    )
    web = next(d for d in first if d["metadata"]["name"] == "web")
    assert web["spec"] == yaml.safe_load(file.read_text().split("---")[5])["spec"]
    events = AuditEvent.objects.exclude(kind="session").exclude(
        verb__in=["sync", "operation-ended"]
    )
    before = events.count()
    again = flotilla("admin", "import", str(out))
    assert not [line for line in again.splitlines() if " created" in line or " updated" in line], (
        again
    )
    assert events.count() == before
    flotilla("admin", "export", "-o", str(out))
    assert list(yaml.safe_load_all(out.read_text())) == first
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "kind: AppProject\nmetadata: {name: fine}\nspec: {}\n---\nkind: Application\n"
        "metadata: {name: UPPER}\nspec: {}\n"
    )
    found = flotilla.run("apply", "-f", str(broken), code=20)
    assert "AppProject fine created" in found.stdout and "Application UPPER failed" in found.stdout
    assert "1 of 2 could not be imported" in found.stderr


def test_flags_change_only_what_they_name():
    spec = {"source": {"repoURL": "r", "path": "p"}, "destination": {"server": "s"}}
    appspec.apply(
        spec,
        {
            "parameter": ["a=1", "b=2"],
            "kustomize_image": ["x=y:1", "x=y:2"],
            "dest_name": "east",
            "sync_policy": "auto",
            "auto_prune": True,
            "sync_option": ["A=true", "!B=true"],
        },
    )
    assert spec == {
        "source": {
            "repoURL": "r",
            "path": "p",
            "helm": {"parameters": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]},
            "kustomize": {"images": ["x=y:2"]},
        },
        "destination": {"name": "east"},
        "syncPolicy": {"automated": {"prune": True}, "syncOptions": ["A=true"]},
    }
    appspec.unset(spec, {"parameter": ["a"], "kustomize_image": ["x"]})
    assert spec["source"]["helm"] == {"parameters": [{"name": "b", "value": "2"}]}
    for flags, words in (
        ({"self_heal": True}, "need automated sync"),
        ({"sync_policy": "x"}, "none or automated"),
        ({"helm_set": ["x"]}, "name=value"),
        ({"kustomize_replica": ["a=b"]}, "whole number"),
    ):
        with pytest.raises(Problem, match=words):
            appspec.apply({"source": {}}, flags)


def test_flags_of_every_command(monkeypatch):
    monkeypatch.setattr(config, "FLAGS", config.Flags())
    left = main.take_flags(
        [
            "app",
            "--server",
            "hub",
            "list",
            "--insecure",
            "-H",
            "A: b",
            "--grpc-web",
            "--loglevel=debug",
            "--prune=true",
            "--prune=false",
            "--validate=false",
            "--",
            "--server",
            "x",
        ]
    )
    assert left == ["app", "list", "--prune", "--no-validate", "--", "--server", "x"]
    assert (config.FLAGS.server, config.FLAGS.insecure, config.FLAGS.headers) == (
        "hub",
        True,
        {"A": "b"},
    )
    assert main.take_flags(["appset", "set-secret", "n", "--server", "https://x"]) == [
        "appset",
        "set-secret",
        "n",
        "--server",
        "https://x",
    ]


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "health": st.just({"example.com/Widget": "return {}", "Pod": "return {}"}),
        "anonymous": st.just(True),
        "ignore_differences": st.just(
            [
                {"group": "apps", "kind": "Deployment", "jsonPointers": ["/a"]},
                {"group": "*", "kind": "*", "jqPathExpressions": [".b"]},
            ]
        ),
        "resource_filters": st.just({"exclusions": [{"kinds": ["X"]}]}),
        "compare_options": st.just({"ignoreAggregatedRoles": True}),
        "notices": st.just([{"tone": "info", "text": "t", "url": "https://x"}]),
        "global_projects": st.just([{"projectName": "p", "labelSelector": {}}]),
    },
)


@given(SETTINGS)
def test_settings_survive_the_config_map(settings):
    assert configmaps.read(configmaps.write(settings, [])).settings == settings
