"""What the roles of one project may weigh, and that they cost nobody else's decisions."""

import threading

import pytest

from hub.access import decisions, policy_sources
from hub.engine.errors import Invalid
from hub.engine.project_roles import project_policy
from hub.engine.rbac import Enforcer, joined
from hub.models import ProjectPolicy, access_changed
from projects.diagnostics import CHECKS
from projects.objects.specs import check_project


def role(name, *, lines=0, groups=0, project="p1"):
    subject = f"proj:{project}:{name}"
    return {
        "name": name,
        "policies": [
            f"p, {subject}, applications, get, {project}/a{n}, deny" for n in range(lines)
        ],
        "groups": [f"g{n}" for n in range(groups)],
    }


@pytest.mark.parametrize(
    ("what", "words"),
    [("lines", "2100 policy lines in all its roles"), ("groups", "2100 groups in all its roles")],
)
def test_the_roles_of_a_project_are_bounded_together(what, words):
    roles = [role(f"r{n}", **{what: 700}) for n in range(3)]

    check_project({"roles": roles[:2]}, "p1")
    with pytest.raises(Invalid, match=f"spec.roles has {words}.* at most 2000 are allowed; "):
        check_project({"roles": roles}, "p1")


def test_roles_that_are_older_than_the_bound_hold_and_are_named(db):
    del db
    roles = [role(f"r{n}", lines=700) for n in range(3)]
    ProjectPolicy.objects.create(project="p1", roles=roles)
    access_changed("project", "p1", roles)
    decisions.reload_policies()

    assert not decisions.enforcer().decide(["proj:p1:r2"], "applications", "get", "p1/a699").allowed
    assert decisions.enforcer().decide(["proj:p1:r2"], "projects", "get", "p1").allowed
    assert f"project p1: spec.roles has {3 * 700} policy lines" in dict(CHECKS)["policies"]()
    decisions._of_request.set(None)


def test_a_decision_asks_no_other_projects_lines():
    projects = [f"p{n}" for n in range(20)]
    roles = {p: [{**role("r", lines=5, project=p), "groups": ["bob"]}] for p in projects}
    enforcer = Enforcer(joined(project_policy(p, r) for p, r in roles.items()))

    assert not enforcer.decide(["bob"], "applications", "get", "p7/a1").allowed

    index = enforcer._candidates(("bob",), "applications", "get").deny
    assert set(index._rules) == set(projects)
    assert set(index._groups) == {"p7"}


def test_a_change_reads_only_the_project_that_changed(db, monkeypatch):
    del db
    read = []

    def counted(project, *args):
        read.append(project)
        return project_policy(project, *args)

    monkeypatch.setattr(policy_sources, "project_policy", counted)
    for name in ("p1", "p2"):
        ProjectPolicy.objects.create(project=name, roles=[role("r", lines=3, project=name)])
    access_changed("project", "p1", None)
    decisions._newest()
    read.clear()

    changed = [role("r", lines=2)]
    ProjectPolicy.objects.filter(project="p1").update(roles=changed)
    access_changed("project", "p1", changed)
    state = decisions._newest()

    assert read == ["p1"]
    assert [r.object for r in state.enforcer._by_subject["proj:p1:r"]] == ["p1", "p1/a0", "p1/a1"]
    assert len(state.enforcer._by_subject["proj:p2:r"]) == 4


def test_after_a_change_one_thread_compiles_for_all(monkeypatch):
    compiled, go_on = [], threading.Event()
    state = decisions._State("new", Enforcer(joined(())), (), frozenset(), None, None)

    def compile_slowly():
        compiled.append(1)
        go_on.wait(5)
        decisions._state = state
        return state

    monkeypatch.setattr(decisions, "setting", lambda *_: "new")
    monkeypatch.setattr(decisions, "_state", None)
    monkeypatch.setattr(decisions, "_compiled", compile_slowly)
    found = []
    threads = [threading.Thread(target=lambda: found.append(decisions._newest())) for _ in range(8)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()

    assert found == [state] * 8
    assert len(compiled) == 1
