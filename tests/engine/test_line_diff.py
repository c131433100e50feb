"""Differences of lines: shortest where that is affordable, whole and honest where it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.engine.line_diff import STEPS, TOO_LONG, Budget, compare_lines, hunks, unified

FEW = st.lists(st.sampled_from("abcd"), max_size=9)


class Counted(str):
    """A line that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def longest(old, new):
    """The length of the longest common subsequence, by the table of the textbook."""
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for x, a in enumerate(old):
        for y, b in enumerate(new):
            table[x + 1][y + 1] = (
                table[x][y] + 1 if a == b else max(table[x][y + 1], table[x + 1][y])
            )
    return table[-1][-1]


@given(FEW, FEW, st.sampled_from([0, 5, 20, STEPS]))
def test_a_difference_is_whole_and_shortest(old, new, steps):
    found = compare_lines(old, new, Budget(steps))

    place = (0, 0)
    for span in found.spans:
        assert (span.a1, span.b1) == place != (span.a2, span.b2)
        assert not span.is_same or old[span.a1 : span.a2] == new[span.b1 : span.b2]
        place = (span.a2, span.b2)
    assert place == (len(old), len(new))
    same = sum(span.a2 - span.a1 for span in found.spans if span.is_same)
    assert same == longest(old, new) if found.is_whole else same <= longest(old, new)


MANY = 20_000
HOSTILE = [
    pytest.param(["a"] * MANY, ["a"] * (MANY - 1) + ["b"], True, id="equal lines"),
    pytest.param(["a", "b"] * MANY, ["b", "a", "a"] * MANY, False, id="two lines in turn"),
    pytest.param(
        ["x", *["a"] * MANY, "y"], ["z", *["a"] * 9, "v"], False, id="many less of a kind"
    ),
    pytest.param(
        [str(n) for n in range(MANY)], [str(-n) for n in range(MANY)], True, id="all other"
    ),
    pytest.param(
        [str(n) for n in range(MANY)], [str(n) for n in range(MANY)][::-1], False, id="turned round"
    ),
    pytest.param(
        [str(n % 97) for n in range(MANY)], [str(n % 89) for n in range(MANY)], False, id="periods"
    ),
]


@pytest.mark.parametrize(("old", "new", "is_whole"), HOSTILE)
def test_no_lines_take_more_than_the_budget(old, new, is_whole):
    Counted.compared = 0
    budget = Budget()

    found = compare_lines([Counted(x) for x in old], [Counted(x) for x in new], budget)

    assert found.is_whole is is_whole
    assert Counted.compared <= 20 * (len(old) + len(new))
    assert budget.left >= -max(len(old), len(new)) - 1


def test_a_budget_is_shared():
    budget = Budget(2_000)
    old, new = ["a", "b"] * 100, ["b", "a", "a"] * 100

    assert not compare_lines(old, new, budget).is_whole
    assert not compare_lines(["a", "b"], ["b", "a"], budget).is_whole


def test_groups_have_their_context():
    old = [str(n) for n in range(30)]
    new = [*old[:10], "x", *old[11:14], "y", *old[14:]]
    groups = hunks(compare_lines(old, new, Budget()).spans, 2)
    assert [(g[0].a1, g[-1].a2) for g in groups] == [(8, 16)]
    groups = hunks(compare_lines(old, new, Budget()).spans, 1)
    assert [(g[0].a1, g[-1].a2) for g in groups] == [(9, 12), (13, 15)]
    assert hunks(compare_lines(old, old, Budget()).spans, 2) == []
    assert hunks(compare_lines([], [], Budget()).spans, 2) == []


def test_unified_lines_are_those_of_diff():
    found = list(unified("a\nb\nc\nd\ne\nf", "a\nb\nc\nd\nx\nf\ng", ("old", "new"), 1))
    assert found == ["--- old", "+++ new", "@@ -4,3 +4,4 @@", " d", "-e", "+x", " f", "+g"]
    assert list(unified("a", "a", ("old", "new"))) == []
    assert list(unified("", "a", ("old", "new")))[2:] == ["@@ -0,0 +1 @@", "+a"]
    old, new = "a\nb\n" * MANY, "b\na\na\n" * MANY
    assert next(unified(old, new, ("old", "new"))) == f"# {TOO_LONG}"
