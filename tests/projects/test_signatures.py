"""Projects that ask for signed commits."""

import os
import shutil
import subprocess
import warnings

import pytest

from hub.engine.source_integrity import key_name, signature_requirement


def skip_or_fail(reason):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: '{}'}}\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two people's keys, made and used by the genuine gpg."""
    if shutil.which("gpg") is None:
        skip_or_fail("gpg is not installed")
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    found = {}
    for name in ("ann", "eve"):
        run = [
            "gpg",
            "--homedir",
            str(home),
            "--batch",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        subprocess.run(
            [
                *run,
                "--quick-generate-key",
                f"{name} <{name}@example.com>",
                "ed25519",
                "sign",
                "never",
            ],
            check=True,
            capture_output=True,
        )
        armored = subprocess.run(
            [*run, "--armor", "--export", name], check=True, capture_output=True, text=True
        ).stdout
        listed = subprocess.run(
            [*run, "--with-colons", "--list-keys", name], check=True, capture_output=True, text=True
        ).stdout
        fingerprint = next(
            line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr")
        )
        found[name] = (fingerprint, armored)
    wrapper = home / "gpg-wrapper"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"exec gpg --homedir {home} --batch --pinentry-mode loopback --passphrase '' \"$@\"\n"
    )
    wrapper.chmod(0o755)
    found["program"] = str(wrapper)
    yield found
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=False)


def signed(repo, keys, who, value):
    repo.write({"a.yaml": CONFIG.format(value)})
    repo.git("add", "-A")
    program, key = keys["program"], keys[who][0]
    repo.git(
        "-c", f"gpg.program={program}", "commit", "-q", "--allow-empty", "-m", "signed", f"-S{key}"
    )
    return repo.git("rev-parse", "HEAD")


def demand(hub, **spec):
    full = {
        "sourceRepos": ["*"],
        "destinations": [{"server": "*", "namespace": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
        **spec,
    }
    hub.post(
        "/api/v1/projects",
        {"project": {"metadata": {"name": "signed"}, "spec": full}, "upsert": True},
    )


def test_only_signed_commits_are_synced(hub, sandbox, repo, app, namespace, keys):
    fingerprint, armored = keys["ann"]
    made = hub.post("/api/v1/gpgkeys", {"keydata": armored})
    assert [k["keyID"] for k in made["created"]["items"]] == [fingerprint[-16:]]
    assert hub.post("/api/v1/gpgkeys", {"keydata": armored})["skipped"] == [fingerprint[-16:]]
    assert "ann@example.com" in hub.get(f"/api/v1/gpgkeys/{fingerprint[-16:]}")["owner"]
    demand(hub, signatureKeys=[{"keyID": fingerprint[-16:]}])
    repo.commit({"a.yaml": CONFIG.format(1)})
    name = app(repo, sandbox, namespace, project="signed", policy={"automated": {}})
    assert "it is not signed" in hub.condition(name, "ComparisonError")["message"]
    hub.post(
        f"/api/v1/applications/{name}/sync",
        {"manifests": [CONFIG.format(9)], "dryRun": True},
        status=400,
    )
    revision = signed(repo, keys, "ann", 2)
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    hub.wait_status(name, "Synced", "Healthy", revision)
    signed(repo, keys, "eve", 3)
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    assert "unknown key" in hub.condition(name, "ComparisonError")["message"]
    hub.post("/api/v1/gpgkeys", {"keydata": keys["eve"][1]})
    hub.get(f"/api/v1/applications/{name}", refresh="hard")
    assert "unallowed key" in hub.condition(name, "ComparisonError")["message"]
    assert sandbox.get("", "ConfigMap", namespace, "a")["data"] == {"a": "2"}
    # The same files in an unsigned commit prove nothing.
    repo.commit({"a.yaml": CONFIG.format(2)})
    hub.get(f"/api/v1/applications/{name}", refresh="normal")
    assert "it is not signed" in hub.condition(name, "ComparisonError")["message"]
    hub.delete("/api/v1/gpgkeys", keyID=fingerprint[-16:])
    hub.delete("/api/v1/gpgkeys", keyID=fingerprint[-16:], status=403)


def test_strict_looks_at_the_whole_history(hub, sandbox, repo, app, namespace, keys):
    fingerprint, armored = keys["ann"]
    hub.post("/api/v1/gpgkeys", {"keydata": armored})
    policy = {"repos": [{"url": "*"}], "gpg": {"mode": "strict", "keys": [fingerprint]}}
    demand(hub, sourceIntegrity={"git": {"policies": [policy]}})
    repo.commit({"b.yaml": CONFIG.format(1).replace("name: a", "name: b")})
    signed(repo, keys, "ann", 2)
    name = app(repo, sandbox, namespace, project="signed")
    assert "it is not signed" in hub.condition(name, "ComparisonError")["message"]
    demand(
        hub,
        sourceIntegrity={
            "git": {"policies": [{**policy, "gpg": {"mode": "head", "keys": [fingerprint]}}]}
        },
    )
    hub.wait_status(name, "OutOfSync")


def test_an_altered_commit_is_refused(keys, tmp_path):
    from dulwich.repo import Repo

    from projects.sources.signatures import _problem

    def run(*args):
        person = [
            "-c",
            "user.name=ann",
            "-c",
            "user.email=a@x",
            "-c",
            f"gpg.program={keys['program']}",
        ]
        subprocess.run(
            ["git", "-C", str(tmp_path), *person, *args], check=True, capture_output=True
        )

    run("init", "-q")
    run("commit", "-q", "--allow-empty", "-m", "good", f"-S{keys['ann'][0]}")
    repo = Repo(str(tmp_path))
    commit = repo[repo.head()]
    wanted = signature_requirement({"signatureKeys": [{"keyID": keys["ann"][0]}]}, "https://x")
    known = {key_name(keys["ann"][0]): keys["ann"][1]}
    assert _problem(commit, wanted, known) == ""
    commit.message = b"evil\n"
    assert "bad signature" in _problem(commit, wanted, known)
    commit.gpgsig = b"-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----"
    assert "not an OpenPGP signature" in _problem(commit, wanted, known)
    repo.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxx\n-----END PGP PUBLIC KEY BLOCK-----",
    ],
)
def test_keys_that_cannot_be_read(idle_hub, text):
    idle_hub.post("/api/v1/gpgkeys", {"keydata": text}, status=400)


def test_a_secret_key_is_refused(idle_hub):
    from pysequoia import Tsk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        secret = str(Tsk.generate("a <a@example.com>"))
        assert (
            "secret key"
            in idle_hub.post("/api/v1/gpgkeys", {"keydata": secret}, status=400)["message"]
        )
