"""PostgreSQL runs the tests that send it what no other test sends (support/statements.py)."""

import ast
from pathlib import Path

import pytest
from support.statements import (
    THE_SAME,
    choose,
    is_left_out,
    left_out,
    load_left_out,
    shapes,
    without_renamed,
)

TESTS = Path(__file__).parents[1]


def functions(file):
    tree = ast.parse((TESTS / file).read_text())
    return {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("file", sorted({*load_left_out(), *THE_SAME}))
def test_every_listed_test_exists(file):
    assert (TESTS / file).exists(), "rename it in tests/postgresql.json or support/statements.py"
    gone = set(load_left_out().get(file, {})) - functions(file)
    assert not gone, "rename it in tests/postgresql.json"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM t WHERE b = %s", {"SELECT a FROM t WHERE b = ?"}),
        ("SELECT a FROM t WHERE b IN (%s, %s, %s)", {"SELECT a FROM t WHERE b IN (?)"}),
        ("SELECT a FROM t LIMIT 21", {"SELECT a FROM t LIMIT ?"}),
        ("SELECT 'it''s' = \"T1\".\"b\"", {'SELECT ? = "T1"."b"'}),
        ("INSERT INTO t (a) VALUES (%s, %s), (%s, %s)", {"INSERT INTO t (a) VALUES (?)"}),
        (
            'UPDATE "t" SET "a" = %s, "b" = NULL WHERE c = 1',
            {'UPDATE "t" SET "a" = ?', 'UPDATE "t" SET "b" = NULL', 'UPDATE "t" WHERE c = ?'},
        ),
        ('SAVEPOINT "s140_x7"', {'SAVEPOINT "s"'}),
        ('CREATE TABLE "t" ()', set()),
    ],
    ids=["value", "list", "number", "text", "rows", "columns", "savepoint", "table"],
)
def test_a_shape_is_a_statement_without_its_values(sql, expected):
    assert shapes(sql) == expected


RECORDED = {
    "tests/hub/test_a.py::test_all": {"seconds": 9, "shapes": ["read", "write"]},
    "tests/hub/test_a.py::test_reads": {"seconds": 1, "shapes": ["read"]},
    "tests/hub/test_a.py::test_writes[one]": {"seconds": 1, "shapes": ["write"]},
    "tests/hub/test_a.py::test_writes[two]": {"seconds": 2, "shapes": ["write"]},
    "tests/hub/test_a.py::test_nothing": {"seconds": 1, "shapes": []},
    "tests/hub/test_locks.py::test_nothing": {"seconds": 1, "shapes": []},
}


def test_the_cheapest_tests_that_send_every_shape_are_chosen():
    chosen = choose(RECORDED)

    assert chosen == {
        "tests/hub/test_a.py::test_reads",
        "tests/hub/test_a.py::test_writes[one]",
        "tests/hub/test_locks.py::test_nothing",  # by its name
    }
    assert left_out(RECORDED, chosen) == {
        "hub/test_a.py": {"test_all": [], "test_nothing": [], "test_writes": ["one"]}
    }


def test_what_nobody_has_recorded_runs():
    known = {"hub/test_a.py": {"test_all": [], "test_writes": ["one"]}}

    assert is_left_out("tests/hub/test_a.py::test_all", known)
    assert is_left_out("tests/hub/test_a.py::test_writes[two]", known)
    assert not is_left_out("tests/hub/test_a.py::test_writes[one]", known)
    assert not is_left_out("tests/hub/test_a.py::test_new", known)
    assert not is_left_out("tests/hub/test_new.py::test_all", known)


def test_all_cases_run_when_a_chosen_one_has_another_name():
    known = {"hub/test_a.py": {"test_all": [], "test_writes": ["one"]}}
    case = "tests/hub/test_a.py::test_writes[{}]".format

    assert without_renamed(known, [case("one"), case("two")]) == known
    assert without_renamed(known, [case("1"), case("two")]) == {"hub/test_a.py": {"test_all": []}}
