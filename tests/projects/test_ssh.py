"""Git over ssh, against a real server: keys, and hosts that must be known."""

import os
import pwd
import shutil
import subprocess
import time

import pytest
from support.ports import free_port

from hub.engine.errors import RetryLater
from hub.models import Setting
from projects import sources
from projects.models import CredentialTemplate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory):
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not os.path.exists(program):
        if os.environ.get("CI"):
            pytest.fail("sshd must be installed in CI")
        pytest.skip("sshd is not installed")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "client", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    authorized = folder / "authorized"
    authorized.write_text((folder / "client.pub").read_text())
    authorized.chmod(0o600)
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    process = subprocess.Popen(
        [program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL
    )
    time.sleep(0.7)
    yield {"port": port, "folder": folder, "user": pwd.getpwuid(os.getuid()).pw_name}
    process.terminate()
    process.wait(10)


def test_keys_and_known_hosts(ssh_server, repo):
    revision = repo.commit({"c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"})
    base = f"ssh://{ssh_server['user']}@127.0.0.1:{ssh_server['port']}"
    source = {"repoURL": f"{base}{repo.folder}", "path": ".", "targetRevision": "main"}
    key = (ssh_server["folder"] / "client").read_text()
    template = CredentialTemplate.objects.create(url=base, credentials={"sshPrivateKey": key})

    with pytest.raises(RetryLater, match="host key is not known"):
        sources.resolve(source, "default", force=True)
    host = (ssh_server["folder"] / "host.pub").read_text().split()
    Setting.objects.create(
        name="ssh_known_hosts", value=f"[127.0.0.1]:{ssh_server['port']} {host[0]} {host[1]}"
    )
    assert sources.resolve(source, "default", force=True) == revision
    context = sources.Context("a", "a", "ns", "default", {"sourceRepos": ["*"]})
    assert sources.load([source], [revision], context).manifests[0]["metadata"]["name"] == "c"

    template.credentials = {"sshPrivateKey": (ssh_server["folder"] / "other").read_text()}
    template.save()
    with pytest.raises(RetryLater, match="credentials are rejected"):
        sources.resolve(source, "default", force=True)
