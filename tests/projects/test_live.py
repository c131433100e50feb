"""`/live`: what a page hears is what the one who looks may see, at the moment when it is said."""

import asyncio
import contextlib
import json
import threading

import pytest
from django.db import OperationalError, connections
from django.utils import timezone
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from appsets.models import ApplicationSet
from clusters.models import Cluster
from hub.access.decisions import SETTING, Caller
from hub.auth import live_sessions
from hub.auth.sessions import end_sessions, issue
from hub.base.concurrency import Rates
from hub.events.changes import publish
from hub.models import (
    Account,
    LoginSession,
    Tombstone,
    access_changed,
    change_setting,
    current_version,
    next_version,
)
from projects.api.streams import applications_since
from projects.live_pages import consumers, page_updates
from projects.models import Application, Project, Repository
from projects.objects.applications import remove

pytestmark = pytest.mark.timeout(120)


class Pages:
    """Open pages of several people, and what they hear."""

    def __init__(self, site):
        self.url = site.url
        self.tokens = {"admin": site.hub.token, "": "", "forged": "x.y.z"}

    def person(self, name, *groups):
        """Let a person sign in: by a provider that knows its groups, or by a password."""
        company = {"issuer": "https://sso.example", "subject": f"s-{name}", "groups": list(groups)}
        account = Account.objects.create(
            name=name, password="!", capabilities=["login"], **(company if groups else {})
        )
        self.tokens[name] = issue(account, timezone.now())
        return account

    def open(self, name, origin="", **shown):
        cookie = {"Cookie": f"argocd.token={self.tokens[name]}"} if self.tokens[name] else {}
        url = self.url.replace("http", "ws") + "/live"
        return Page(connect(url, additional_headers=cookie, origin=origin or self.url), shown)


class Page:
    """One of them."""

    def __init__(self, connection, shown):
        self.connection, self.shown = connection, {"page": "applications", "version": 0, **shown}

    async def __aenter__(self):
        self.socket = await self.connection.__aenter__()
        await self.show(**self.shown)
        return self

    async def __aexit__(self, *error):
        await self.connection.__aexit__(*error)

    async def show(self, **shown):
        await self.socket.send(json.dumps(shown))

    async def hear(self, seconds=8):
        return json.loads(await asyncio.wait_for(self.socket.recv(), seconds))

    async def hears_nothing(self, seconds=0.8):
        with pytest.raises(TimeoutError):
            await self.hear(seconds)

    async def end(self):
        """Return the code by which the socket ends."""
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                await self.hear()
        return ended.value.rcvd.code


@pytest.fixture
def pages(web, monkeypatch):
    monkeypatch.setattr(live_sessions, "CHECK_SECONDS", 0.2)
    return Pages(web)


def policy(*lines):
    value = {"policy.csv": "\n".join(lines)}
    change_setting(SETTING, value)
    access_changed("rbac", "rbac", value)


def place(name, project="default", cluster=None, owner="", destination=None):
    return Application.objects.create(
        name=name,
        project=project,
        cluster=cluster,
        owner=owner,
        spec={"project": project, "destination": destination or {}},
        resource_version=next_version(),
    )


def change(*applications, **fields):
    """Change applications as a worker does; return the version."""
    version = next_version()
    Application.objects.filter(pk__in=[a.pk for a in applications]).update(
        resource_version=version, **fields
    )
    publish()
    return version


async def do(work, *args, **kwargs):
    """Do something once what was said before is understood."""
    await asyncio.sleep(0.3)

    def run():
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


def see(work):
    return asyncio.run(work())


def test_strangers_are_refused(pages):
    web = place("web")
    pages.person("nobody")

    async def end(who):
        with pytest.raises(ConnectionClosed) as ended:
            async with pages.open(who, rows=[web.pk]) as page:
                await page.hear()
        return ended.value.rcvd.code

    async def refused():
        async with pages.open("admin", origin="http://evil.example"):
            pass

    assert asyncio.run(end("")) == asyncio.run(end("forged")) == consumers.UNKNOWN
    with pytest.raises(InvalidStatus) as answer:
        asyncio.run(refused())
    assert answer.value.response.status_code == 403

    @see
    async def _():
        async with pages.open("nobody", rows=[web.pk, 4711], version=1) as page:
            told = await page.hear()
            # What may not be seen and what never was are the same, and are not heard of again.
            assert told["gone"] == [web.pk, 4711] and set(told) == {"version", "gone"}
            await do(change, web)
            await page.hears_nothing()


def test_every_reader_receives_what_they_may_see(pages):
    """Three people at once, one batch of changes: each hears by the rights that are theirs."""
    pages.person("east", "east-team")
    pages.person("west", "west-team")
    policy(
        "p, east-team, applications, get, east/*, allow",
        "p, west-team, applications, get, west/*, allow",
    )
    east, west, other = place("a", "east"), place("b", "west"), place("c", "west")
    rows = [east.pk, west.pk]

    @see
    async def _():
        async with (
            pages.open("east", rows=rows) as first,
            pages.open("west", rows=rows) as second,
            pages.open("admin", rows=rows) as third,
            pages.open("east", rows=[], page="fleet") as fleet,
        ):
            assert (await first.hear())["gone"] == [west.pk]
            assert (await second.hear())["gone"] == [east.pk]
            await do(change, east, west, other)
            told = await first.hear()
            assert list(told["rows"]) == [str(east.pk)] and set(told) == {"version", "rows"}
            told = await second.hear()
            assert list(told["rows"]) == [str(west.pk)] and told["others"] == 1
            told = await third.hear()
            assert sorted(told["rows"]) == sorted(map(str, rows)) and told["others"] == 1
            assert (await fleet.hear()) == {"version": told["version"], "object": True}
            await do(change, west)
            await second.hear()
            await first.hears_nothing()
            await fleet.hears_nothing(0.1)


def test_rights_taken_by_a_policy_are_followed(pages):
    pages.person("dev")
    policy("p, dev, applications, get, default/*, allow")
    web = place("web")

    @see
    async def _():
        async with pages.open("dev", rows=[web.pk]) as page:
            await do(change, web)
            assert list((await page.hear())["rows"]) == [str(web.pk)]
            # Nothing else changes: the page is told by itself.
            await do(policy, "p, other, applications, get, default/*, allow")
            told = await page.hear()
            assert told["gone"] == [web.pk] and "rows" not in told
            await do(change, web)
            await page.hears_nothing()
            await do(policy, "p, dev, applications, get, default/w*, allow")
            assert list((await page.hear())["rows"]) == [str(web.pk)]
            await do(change, web)
            assert list((await page.hear())["rows"]) == [str(web.pk)]


def test_a_change_after_a_policy_is_published_by_that_policy(pages, monkeypatch):
    """Also before the check that comes every few seconds."""
    pages.person("dev")
    policy("p, dev, applications, get, default/*, allow")
    web = place("web")

    @see
    async def _():
        async with pages.open("dev", rows=[web.pk]) as page:
            await do(change, web)
            await page.hear()
            monkeypatch.setattr(live_sessions, "CHECK_SECONDS", 60)
            await do(policy, "p, dev, applications, get, default/*, deny")
            await do(change, web)
            told = await page.hear()
            assert told["gone"] == [web.pk] and "rows" not in told


def test_groups_that_were_taken_are_followed(pages):
    account = pages.person("dev", "team")
    policy("p, team, applications, get, default/*, allow")
    web = place("web")

    @see
    async def _():
        async with pages.open("dev", rows=[web.pk]) as page:
            await do(change, web)
            assert "rows" in await page.hear()
            await do(Account.objects.filter(pk=account.pk).update, groups=[])
            assert (await page.hear())["gone"] == [web.pk]


@pytest.mark.parametrize("how", ["ended", "disabled", "deleted"])
def test_the_end_of_a_session_ends_its_pages_alone(pages, how):
    account = pages.person("dev")
    web = place("web")
    ends = {
        "ended": lambda: end_sessions(LoginSession.objects.filter(account=account), "admin"),
        "disabled": lambda: Account.objects.filter(pk=account.pk).update(enabled=False),
        "deleted": account.delete,
    }

    @see
    async def _():
        async with (
            pages.open("dev", rows=[]) as first,
            pages.open("dev", rows=[], page="fleet") as second,
            pages.open("admin", rows=[web.pk]) as other,
        ):
            await do(ends[how])
            assert await first.end() == await second.end() == consumers.UNKNOWN
            await do(change, web)
            assert "rows" in await other.hear()


def test_a_session_that_cannot_be_checked_ends_its_page(pages, monkeypatch):
    """It asks anew, and is not sent to sign in: nobody knows that it has to."""

    def away(tokens):
        raise OperationalError("the database is away")

    @see
    async def _():
        async with pages.open("admin", rows=[]) as page:
            await do(monkeypatch.setattr, live_sessions, "verify_all", away)
            assert await page.end() == consumers.FAILED


def test_rules_of_clusters_are_followed(pages):
    pages.person("dev")
    policy("p, dev, applications, get, */*, allow, clusters where env=test")
    clusters = {
        env: Cluster.objects.create(
            server=f"https://{env}.example", name=env, labels={"env": env}, is_synced=True
        )
        for env in ("test", "prod")
    }
    web, shop = place("web", cluster=clusters["test"]), place("shop", cluster=clusters["prod"])

    @see
    async def _():
        async with pages.open("dev", rows=[web.pk]) as page:
            await do(change, web, shop)
            told = await page.hear()
            assert list(told["rows"]) == [str(web.pk)] and "others" not in told
            # It moves to a cluster that is not this person's.
            await do(change, web, cluster=clusters["prod"])
            assert (await page.hear())["gone"] == [web.pk]


def test_the_end_of_an_application_is_told_by_rules_of_clusters(pages):
    pages.person("dev")
    policy("p, dev, applications, get, */*, allow, clusters named test-*")
    rows = []
    for name in ("test-1", "prod-1"):
        cluster = Cluster.objects.create(
            server=f"https://{name}.example", name=name, is_synced=True
        )
        rows.append(place(f"on-{name}", cluster=cluster, destination={"name": name}))

    @see
    async def _():
        async with pages.open("dev", rows=[]) as page:
            await do(remove, rows[1])
            await page.hears_nothing()
            await do(remove, rows[0])
            assert (await page.hear())["others"] == 1

    told = [kind for kind, *_ in applications_since(0, pages.tokens["dev"]) if kind == "DELETED"]
    assert len(told) == 1


def test_what_is_deleted_is_told_to_who_might_see_it(pages):
    pages.person("dev")
    policy("p, dev, applications, get, mine/*, allow")
    web, more, theirs = place("web", "mine"), place("more", "mine"), place("theirs", "other")

    @see
    async def _():
        async with (
            pages.open("dev", rows=[web.pk]) as listed,
            pages.open("dev", rows=[web.pk], page="application") as alone,
            pages.open("dev", rows=[more.pk], page="application") as another,
        ):
            await do(remove, theirs)
            await listed.hears_nothing()
            await do(remove, web)
            assert (await listed.hear())["gone"] == [web.pk]
            assert (await alone.hear())["object"] is True
            await do(remove, more)
            assert (await listed.hear())["others"] == 1
            assert (await another.hear())["gone"] == [more.pk]
            await alone.hears_nothing(0.1)


def test_a_page_that_reconnects_receives_what_it_missed(pages, monkeypatch):
    monkeypatch.setattr(page_updates, "MAX_CHANGES", 3)
    shown, same, gone = place("shown"), place("same"), place("gone")
    many = [place(f"n{n}") for n in range(10)]
    known = change(same)
    change(shown)
    change(*many)
    lost = place("lost")
    remove(gone)
    remove(lost)

    @see
    async def _():
        rows = [shown.pk, same.pk, gone.pk]
        async with pages.open("admin", rows=rows, version=known) as page:
            told = await page.hear()
            assert list(told["rows"]) == [str(shown.pk)]
            assert told["gone"] == [gone.pk] and told["others"] == 11
        async with pages.open("admin", rows=[shown.pk, same.pk], version=told["version"]) as page:
            await page.hears_nothing()
            # More at once than one look takes.
            await do(change, *many, same)
            heard = [await page.hear()]
            while "rows" not in heard[-1]:
                heard.append(await page.hear())
            assert list(heard[-1]["rows"]) == [str(same.pk)]


def test_a_slow_page_receives_what_it_missed_at_once(pages, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_WAITING", 0)
    web, other = place("web"), place("other")

    @see
    async def _():
        async with pages.open("admin", rows=[web.pk], view="tiles") as page:
            for _ in range(3):
                await do(change, web, other)
                told = await page.hear()
                assert list(told["rows"]) == [str(web.pk)] and told["others"] == 1


def test_a_page_receives_changes_of_its_new_subscription(pages):
    web, shop = place("web"), place("shop")

    @see
    async def _():
        async with pages.open("admin", rows=[web.pk]) as page:
            await do(change, web, shop)
            told = await page.hear()
            assert list(told["rows"]) == [str(web.pk)]
            version = told["version"]
            await page.show(page="applications", view="tiles", rows=[shop.pk], version=version)
            await do(change, web, shop)
            told = await page.hear()
            assert list(told["rows"]) == [str(shop.pk)] and told["others"] == 1
            assert "<td" not in told["rows"][str(shop.pk)]


def test_invalid_messages_have_no_effect(pages):
    web = place("web")

    @see
    async def _():
        async with pages.open("admin", rows=[web.pk]) as page:
            for odd in (
                "[]",
                "1",
                "null",
                '{"page": 1, "rows": ["x", true, null, {}, -1e400], "version": "y", "view": []}',
                '{"rows": {"a": 1}, "version": -5}',
                '{"version": 1e400, "also": [1, "\\u0000", "clusters:\\u0000", null]}',
                f'{{"version": {10**40}, "rows": [{10**40}], "also": "sets"}}',
            ):
                await page.socket.send(odd)
            await page.show(page="applications", view="table", rows=[web.pk], version=0)
            for unreadable in ("{", b"\x00", "[" * 60_000):
                async with pages.open("admin", rows=[web.pk]) as another:
                    await another.socket.send(unreadable)
                    assert await another.end() == consumers.UNREADABLE
            async with pages.open("admin", rows=list(range(20_000))) as another:
                assert await another.end() == 1009  # too much
            await do(change, web)
            while "rows" not in (told := await page.hear()):
                pass
            assert list(told["rows"]) == [str(web.pk)]


def test_one_person_opens_only_so_many_pages(pages, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_PAGES", 2)
    pages.person("dev")

    @see
    async def _():
        async with pages.open("dev", rows=[]), pages.open("dev", rows=[]) as second:
            await asyncio.sleep(0.3)
            with pytest.raises(ConnectionClosed) as ended:
                async with pages.open("dev", rows=[]) as third:
                    await third.hear()
            assert ended.value.rcvd.code == consumers.TOO_MANY
            async with pages.open("admin", rows=[]) as other:
                await other.hears_nothing(0.2)
            await second.socket.close()
            await asyncio.sleep(0.3)
            async with pages.open("dev", rows=[]) as again:
                await again.hears_nothing(0.2)


@pytest.mark.parametrize("limit", ["page", "person"])
def test_a_page_that_sends_without_end_is_closed(pages, monkeypatch, limit):
    if limit == "page":
        monkeypatch.setattr(consumers, "PAGE_RATE", (5, 0.1))
    else:
        monkeypatch.setattr(consumers, "_MESSAGES", Rates(5, 0.1))
    pages.person("dev")

    @see
    async def _():
        async with pages.open("dev", rows=[]) as page, pages.open("admin", rows=[]) as other:
            with pytest.raises(ConnectionClosed) as ended:
                for _n in range(20):
                    await page.show(page="applications", version=0, rows=[])
                while True:
                    await page.hear()
            assert ended.value.rcvd.code == consumers.TOO_FAST
            assert "send fewer per second" in ended.value.rcvd.reason
            await do(lambda: change(place("web")))
            while "others" not in (told := await other.hear()):
                pass
            assert told["others"] == 1


def test_pages_of_one_person_that_catch_up_keep_nobody_else_waiting(pages, monkeypatch):
    """Dev's pages are slow to look at: all of them wait for each other, and admin's page and
    requests do not.
    """
    going, at_once, free = [], [], threading.Event()
    real = consumers.missed_since

    def slow(caller, *args, **kwargs):
        if caller.account.name != "dev":
            return real(caller, *args, **kwargs)
        going.append(1)
        at_once.append(len(going))
        free.wait(20)
        going.pop()
        return real(caller, *args, **kwargs)

    monkeypatch.setattr(consumers, "missed_since", slow)
    pages.person("dev")

    @see
    async def _():
        async with contextlib.AsyncExitStack() as stack:
            mine = [
                await stack.enter_async_context(pages.open("dev", rows=[1], version=1))
                for _ in range(consumers.THREADS + 2)
            ]
            try:
                async with pages.open("admin", rows=[4711], version=1) as other:
                    assert (await other.hear())["gone"] == [4711]
            finally:
                free.set()
            for page in mine:
                assert (await page.hear())["gone"] == [1]

    assert max(at_once) == 1


def test_what_was_missed_of_many_applications_takes_few_queries(db, django_assert_max_num_queries):
    del db
    Cluster.objects.create(server="https://c", name="c")
    manifest = {"spec": {"destination": {"server": "https://c"}}}
    first = next_version()
    Tombstone.objects.bulk_create(
        Tombstone(
            resource_version=next_version(),
            kind="Application",
            namespace="argocd",
            name=f"a{n}",
            project="default",
            row=n + 1,
            manifest=manifest,
        )
        for n in range(200)
    )
    policy("p, bob, applications, get, */*, allow, clusters named c")
    bob = Caller("bob", None, ("bob",))

    with django_assert_max_num_queries(30):
        shown = page_updates.Subscription("applications")
        missed = page_updates.missed_since(bob, shown, frozenset(), first)

    assert missed.message["others"] == 200


def test_a_row_that_cannot_be_drawn_keeps_nothing_from_the_others(pages, monkeypatch):
    odd, even = place("odd"), place("even")
    draw = page_updates.row_of

    def drawn(application):
        if application.name == "odd":
            raise KeyError("what nobody expected")
        return draw(application)

    monkeypatch.setattr(page_updates, "row_of", drawn)

    @see
    async def _():
        async with pages.open("admin", rows=[odd.pk, even.pk]) as page:
            await do(change, odd, even)
            told = await page.hear()
            assert list(told["rows"]) == [str(even.pk)] and set(told) == {"version", "rows"}


def test_a_failed_refresh_is_retried(pages, monkeypatch):
    web = place("web")
    look, failed = page_updates.changes_since, []

    def breaks_once(version, *args):
        if version > 0 and not failed:
            failed.append(version)
            raise RuntimeError("what nobody expected")
        return look(version, *args)

    monkeypatch.setattr(page_updates, "changes_since", breaks_once)

    @see
    async def _():
        async with pages.open("admin", rows=[web.pk]) as page:
            await do(change, web)
            assert list((await page.hear())["rows"]) == [str(web.pk)]
            assert failed


def test_pages_about_other_things_hear_of_those(pages):
    """Of each kind: one object, all of it, what runs there; and nothing of what is another's, or
    not for them.
    """
    pages.person("dev")
    policy(
        "p, dev, applications, get, mine/*, allow",
        "p, dev, projects, get, mine, allow",
        "p, dev, clusters, get, https://east.example, allow",
        "p, dev, applicationsets, get, mine/*, allow",
        "p, dev, repositories, get, https://git.example/mine, allow",
    )
    east, west = (
        Cluster.objects.create(server=f"https://{n}.example", name=n, is_synced=True)
        for n in ("east", "west")
    )
    mine, theirs = (
        Project.objects.create(name=n, spec={}, resource_version=next_version())
        for n in ("mine", "theirs")
    )
    own, other = (
        ApplicationSet.objects.create(name=n, project=n, spec={}, resource_version=next_version())
        for n in ("mine", "theirs")
    )
    repos = [
        Repository.objects.create(url=f"https://git.example/{n}", resource_version=next_version())
        for n in ("mine", "theirs")
    ]
    child = place("child", "mine", owner="mine", cluster=east)
    stranger = place("stranger", "theirs", owner="theirs", cluster=west)

    def touch(*rows):
        for row in rows:
            type(row).objects.filter(pk=row.pk).update(resource_version=next_version())
        publish()

    # What a page is about; what changes that it hears of; what changes that it does not.
    cases = [
        ("clusters", [east], [west, mine, child]),
        (f"clusters:{east.pk}", [east], [west]),
        (f"clusters:{west.pk}", [], [west]),
        ("projects", [mine], [theirs, east]),
        (f"projects:{mine.pk}", [mine], [theirs]),
        ("repositories", [repos[0]], [repos[1]]),
        ("sets", [own], [other]),
        (f"sets:{own.pk}", [own], [other]),
        (f"sets:{other.pk}", [], [other]),
        ("children", [child], [stranger, own]),
        ("children:argocd/mine", [child], [stranger]),
        ("children:argocd/theirs", [], [stranger]),
        (f"on:{east.pk}", [child], [stranger]),
        (f"on:{west.pk}", [], [stranger]),
        ("in:mine", [child], [stranger]),
        ("applications", [child], [stranger]),
        ("nonsense", [], [child, own]),
    ]

    def _hears(row):
        return any(row in heard for _, heard, _ in cases)

    @see
    async def _():
        async with contextlib.AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(pages.open("dev", page="p", rows=[], also=[key]))
                for key, _, _ in cases
            ]
            version = (await do(current_version)) or 1
            await do(touch, *{row for _, _, silent in cases for row in silent if not _hears(row)})
            for page in opened:
                await page.hears_nothing(0.05)
            for row in (east, mine, repos[0], own, child):
                await do(touch, row)
                for page, (key, heard, _) in zip(opened, cases, strict=True):
                    if row in heard:
                        assert (await page.hear())["object"] is True, (key, row)
            for page in opened:
                await page.hears_nothing(0.05)
            # Who comes back is told whether it missed something.
            for key, heard, _ in cases:
                async with pages.open(
                    "dev", page="p", rows=[], also=[key], version=version
                ) as page:
                    if heard:
                        assert (await page.hear())["object"] is True, key
                    else:
                        await page.hears_nothing(0.2)


def test_the_end_of_other_things_is_told_too(pages, web, monkeypatch):
    monkeypatch.setattr(live_sessions, "CHECK_SECONDS", 60)  # the project's roles go with it
    hub = web.hub
    hub.post("/api/v1/projects", {"project": {"metadata": {"name": "old"}, "spec": {}}})
    old = Project.objects.get(name="old")

    @see
    async def _():
        async with (
            pages.open("admin", page="project", rows=[], also=[f"projects:{old.pk}"]) as one,
            pages.open("admin", page="projects", rows=[], also=["projects"]) as every,
            pages.open("admin", page="projects", rows=[], also=["sets"]) as other,
        ):
            await do(hub.delete, "/api/v1/projects/old")
            assert (await one.hear())["object"] is True
            assert (await every.hear())["object"] is True
            await other.hears_nothing(0.2)


def test_with_other_rights_a_page_looks_again(pages):
    """It may not be for this person any more."""
    pages.person("dev")
    policy("p, dev, projects, get, default, allow")

    @see
    async def _():
        async with pages.open("dev", page="project", rows=[], also=["projects:1"]) as page:
            await do(policy, "p, other, projects, get, default, allow")
            assert (await page.hear())["object"] is True
            await page.hears_nothing()


def test_a_change_of_policies_is_published_to_affected_pages(pages):
    """Pages of who has the rights as before stay as they are; pages about access look again."""
    pages.person("dev", "team")
    pages.person("auditor")
    rules = ["p, team, projects, get, default, allow", "g, auditor, role:readonly"]
    policy(*rules)

    @see
    async def _():
        async with (
            pages.open("dev", page="project", rows=[], also=["projects:1"]) as page,
            pages.open("auditor", page="roles", rows=[], also=["access"]) as roles,
        ):
            await do(policy, *rules, "p, other, projects, get, *, allow")
            assert (await roles.hear())["object"] is True
            await page.hears_nothing()
            # By a role that somebody else defines.
            await do(policy, *rules, "g, team, role:more", "p, role:more, projects, get, *, allow")
            assert (await page.hear())["object"] is True


def announce(notices):
    change_setting("notices", notices)
    publish()


def test_notices_are_for_every_page_of_who_is_signed_in(pages):
    pages.person("nobody")
    said = [{"tone": "info", "text": "CANARY-notice"}]
    next_version()

    @see
    async def _():
        async with (
            pages.open("nobody", page="", rows=[]) as page,
            pages.open("admin", rows=[]) as every,
        ):
            await do(announce, said)
            told = await page.hear(2)
            # What they say is asked for by the page, of this moment.
            assert told == {"version": told["version"], "notices": True}
            assert (await every.hear())["notices"] is True
            await do(change_setting, "password_pattern", "^.{9,}$")
            await page.hears_nothing()
        before = told["version"] - 1
        async with pages.open("nobody", page="", rows=[], version=before) as late:
            assert (await late.hear())["notices"] is True
        async with pages.open("nobody", page="", rows=[], version=told["version"]) as knows:
            await knows.hears_nothing()
