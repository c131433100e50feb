"""Target revisions: names before ranges, versions of calendars, commits behind the tips."""

import pytest
from support.corpus import CM

from hub.engine.errors import Stalled
from projects import sources
from projects.sources import abbreviated_commits
from projects.sources.constraints import is_valid, parse_version, satisfies
from projects.sources.versions import highest, is_constraint, resolve_git

REFS = {
    "refs/heads/main": "a" * 40,
    "refs/heads/1.2": "b" * 40,
    "refs/tags/1.2.5": "c" * 40,
    "refs/tags/v1": "d" * 40,
    "refs/tags/v1.9.0": "e" * 40,
    "refs/tags/2024.01.05": "f" * 40,
    "refs/tags/2024.10.01": "0" * 40,
    "refs/tags/2023.12.31": "1" * 40,
    "refs/heads/x-ray": "2" * 40,
    "refs/tags/app-1.3": "3" * 40,
    "refs/tags/app-1.3.7": "4" * 40,
    "refs/tags/2.0.0-rc.1": "5" * 40,
    "refs/heads/3.x": "6" * 40,
}


@pytest.mark.parametrize(
    ("target", "prefix", "found"),
    [
        pytest.param("1.2", "", "b", id="a branch beside a range"),
        pytest.param("v1", "", "d", id="a tag beside a range"),
        pytest.param("3.x", "", "6", id="a branch named like a range"),
        pytest.param("x-ray", "", "2", id="a branch that begins with x"),
        pytest.param("refs/tags/v1", "", "d", id="a full name"),
        pytest.param("1.3", "app-", "3", id="a tag with the prefix"),
        pytest.param("1.3.x", "app-", "4", id="a range with the prefix"),
        pytest.param("1.x", "", "e", id="a range"),
        pytest.param("1", "", "e", id="a range of one number"),
        pytest.param("~1.2", "", "c", id="tilde"),
        pytest.param("2024.*", "", "0", id="calendar"),
        pytest.param("2024.01.*", "", "f", id="calendar with a zero"),
        pytest.param("~2024.01", "", "f", id="calendar, tilde"),
        pytest.param(">=2023.01.01 <2024", "", "1", id="calendar, both ends"),
        pytest.param(">=2.0.0-0 <3, <2024", "", "5", id="a pre-release"),
    ],
)
def test_a_ref_of_that_name_wins_over_a_range(target, prefix, found):
    assert resolve_git(target, REFS, "refs/heads/main", prefix) == found * 40


@pytest.mark.parametrize(
    ("constraint", "version", "fits"),
    [
        ("2024.*", "2024.01.05", True),
        ("2024.01.x", "2024.1.9", True),
        (">2024.01", "2024.01.09", False),
        (">2024.01", "2024.02.00", True),
        ("<=2024.01", "2024.01.31", True),
        ("^0.2", "0.2.9", True),
        ("^0.2", "0.3.0", False),
        ("^0.0.3", "0.0.4", False),
        ("!=1.2", "1.2.7", False),
        ("1.2 - 1.4", "1.4.9", True),
        (">=1 <2 || 3", "3.1.0", True),
        (">=1.0.0-0, <2", "1.5.0-rc.1", True),
        (">=1.0.0, <2", "1.5.0-rc.1", False),
        ("*", "0.1.0", True),
        ("1.2.3-beta.2", "1.2.3-beta.10", False),
        (">1.2.3-beta.2", "1.2.3-beta.10", True),
        ("=1.2", "1.2.4", True),
        ("~0", "0.9.1", True),
        ("~0.0.0", "4.5.6", True),
        ("v1.x", "v1.2.3+build", True),
    ],
)
def test_constraints(constraint, version, fits):
    # Each was asked of the library that Argo CD has, beside 12,000 generated ones.
    assert satisfies(parse_version(version), constraint) is fits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "main",
        "1.2,",
        ">>1",
        "1.x || ",
        "feature/1.2",
        "1.2.3.4",
        "^",
        "1 -2",
        "x" * 300,
        "1" * 30,
    ],
)
def test_what_is_no_constraint(text):
    assert not is_valid(text) and not is_constraint(text)


def test_a_version_of_a_chart_that_is_there_wins_over_a_range(monkeypatch):
    from projects.sources import charts

    known = ["1.2", "1.2.5", "2024.01.05", "2024.1.4"]
    monkeypatch.setattr(charts, "versions", lambda *_, **__: known)
    assert charts.resolve("https://charts.example", "demo", "1.2", {}) == "1.2"
    assert charts.resolve("https://charts.example", "demo", "2024.01.x", {}) == "2024.01.05"
    assert highest("2024.*", known) == "2024.01.05"


@pytest.mark.django_db(transaction=True)
def test_an_abbreviated_commit_behind_the_tip_is_found(repo):
    first = repo.commit({"d/a.yaml": CM.format(name="a", a=1)})
    repo.commit({"d/a.yaml": CM.format(name="a", a=2)})
    last = repo.commit({"d/a.yaml": CM.format(name="a", a=3)})

    def resolved(target):
        source = {"repoURL": repo.url, "path": "d", "targetRevision": target}
        return sources.resolve(source, "default", force=True)

    assert [resolved(first[:8]), resolved(first[:7]), resolved(last[:8])] == [first, first, last]
    with pytest.raises(Stalled, match="unable to resolve 'abcdef0123'"):
        resolved("abcdef0123")
    files = sources.files_of({"repoURL": repo.url, "path": "d"}, first, "default")
    assert b"'1'" in files.blob("d/a.yaml")


@pytest.mark.django_db(transaction=True)
def test_the_history_is_asked_for_once_as_long_as_the_refs_stay(repo):
    abbreviated_commits._answers.clear()
    first = repo.commit({"d/a.yaml": CM.format(name="a", a=1)})
    repo.commit({"d/a.yaml": CM.format(name="a", a=2)})
    source = {"repoURL": repo.url, "path": "d", "targetRevision": first[:9]}
    assert sources.resolve(source, "default") == first
    asked = len(repo.server.requests)

    for target in (first[:9], "0123456789", "0123456789", first[:10]):
        try:
            assert sources.resolve({**source, "targetRevision": target}, "default") == first
        except Stalled:
            assert target == "0123456789"

    assert len(repo.server.requests) == asked
