"""The token of a cluster rotates: the old one lives until the new one has been used."""

import pytest

from clusters.api import clusters as api
from clusters.kube import SECRETS, Connection
from clusters.models import Cluster
from hub.cli.clusters import Context, install, registration
from hub.engine.errors import Precondition

ROTATE = "/api/v1/clusters/rotated/rotate-auth"


class Died(BaseException):
    """The process is killed."""


@pytest.fixture
def rotated(idle_hub, sandbox_server):
    """A cluster that is registered by a service account's token, as `flotilla cluster add` does
    it.
    """
    ca = sandbox_server.certificate
    context = Context(sandbox_server.url("east"), ca, False, "", "sandbox-token", "", "")
    token = install(context, "kube-system", "flotilla-manager", [])
    idle_hub.post("/api/v1/clusters", registration(context, token, "rotated", {}, []))
    admin = Connection(
        context.server, "east", {"bearerToken": "sandbox-token", "tlsClientConfig": {"caData": ca}}
    )
    return idle_hub, admin


def secrets(admin):
    return {
        s["metadata"]["name"] for s in admin.request("GET", SECRETS.path("kube-system"))["items"]
    }


def works():
    row = Cluster.objects.get(name="rotated")
    return api.test(row) and row.config["bearerToken"]


def rotate(hub, status=200):
    return hub.post(ROTATE, status=status, **{"id.type": "name"})


def test_the_old_token_goes_once_the_new_one_works(rotated):
    hub, admin = rotated
    before, old = secrets(admin), works()

    rotate(hub)

    assert works() != old
    assert len(secrets(admin)) == 1 and not secrets(admin) & before


def test_a_new_token_that_does_not_work_leaves_the_old_one(rotated, monkeypatch):
    hub, admin = rotated
    before, old = secrets(admin), works()

    def refused(_cluster):
        raise Precondition("cluster rotated refuses the credentials (401): Unauthorized")

    with monkeypatch.context() as patched:
        patched.setattr(api, "test", refused)
        said = rotate(hub, status=400)["message"]

    assert "the new token does not work, the old one stays" in said and "401" in said
    assert works() == old and secrets(admin) == before


@pytest.mark.parametrize(
    ("owner", "name"),
    [(api, "test"), (api, "save"), (api.rotating.Rotation, "retire")],
    ids=["before it is used", "before it is stored", "before the old one is deleted"],
)
def test_a_process_that_dies_leaves_a_token_that_works(rotated, monkeypatch, owner, name):
    hub, admin = rotated

    def dies(*_args):
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dies)
        with pytest.raises(Died):
            rotate(hub)

    assert works()
    assert len(secrets(admin)) == 2

    rotate(hub)

    assert works() and len(secrets(admin)) == 1


def test_a_concurrent_change_of_a_registration_is_not_overwritten(rotated, monkeypatch):
    hub, admin = rotated
    before = secrets(admin)
    honest = api.test

    def changing(cluster):
        row = Cluster.objects.get(name="rotated")
        row.config = {**row.config, "disableCompression": True}
        row.save()
        return honest(cluster)

    with monkeypatch.context() as patched:
        patched.setattr(api, "test", changing)
        assert "changed in the meantime" in rotate(hub, status=409)["message"]

    assert Cluster.objects.get(name="rotated").config["disableCompression"] and works()
    assert secrets(admin) == before


def test_an_old_token_that_cannot_be_deleted_is_named(rotated, monkeypatch):
    hub, admin = rotated
    before = secrets(admin)
    honest = Connection.request

    def request(self, method, path, *args, **more):
        if method == "DELETE" and path.rpartition("/")[2] in before:
            raise api.Refused(403, "no", "Forbidden")
        return honest(self, method, path, *args, **more)

    monkeypatch.setattr(Connection, "request", request)

    said = rotate(hub, status=400)["message"]

    assert next(iter(before)) in said and "delete it yourself" in said
    assert works()
