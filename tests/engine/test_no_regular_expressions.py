"""Python's `re` never reads a pattern of a user, and no pattern of ours is slow on a user's text.

It tries every way to match while it holds the interpreter: people's patterns go through
`hub.engine.globs` and `hub.engine.regex`.
"""

import ast
import re
import time
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS = {"compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}

# Patterns that are put together, by file and the text of the call's pattern: why that is safe.
PUT_TOGETHER = {
    "projects/sources/rendering.py": "names of the hub's own build environment",
    "hub/pages/api_guide.py": "a table in the same file",
    "appsets/template/functions/regexes.py": (
        "1 to 10,000 columns, and a text of at most 10,000 characters"
    ),
}
# Patterns that take long on a long text: what bounds the texts that they are given.
BOUNDED = {
    "hub/engine/retry.py": "a duration has at most 100 characters",
    "hub/engine/quantity.py": "a quantity has at most 64 characters",
    "projects/sources/versions.py": "a constraint has at most 256 characters",
    "appsets/template/functions/versions.py": "constraints and versions: 256 characters",
}
SHORT = 256


@cache
def sources():
    """Return (file, text) of every module, read once."""
    return [
        (str(file.relative_to(ROOT)), file.read_text())
        for package in ("hub", "projects", "clusters", "appsets")
        for file in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in file.parts
    ]


def python_files(words):
    """Yield (file, its nodes) of the modules with a match of `words`: the others cannot have what
    is searched for, and parsing is slow.
    """
    for file, text in sources():
        if re.search(words, text):
            yield file, nodes_of(file)


@cache
def nodes_of(file):
    return list(ast.walk(ast.parse(dict(sources())[file])))


def calls():
    """Yield (file, name of the function, node of the pattern, flags) of every use of `re`."""
    for file, nodes in python_files(r"\bre\."):
        for node in nodes:
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "re"
                and node.func.attr in CALLS
            ):
                yield file, node.func.attr, node.args[0], ast.unparse(node)


FOUND = list(calls())


def test_the_sweep_sees_the_uses():
    assert len(FOUND) > 60


def test_every_pattern_is_written_in_the_code():
    strange = [
        (file, ast.unparse(pattern))
        for file, _, pattern, _ in FOUND
        if not isinstance(pattern, ast.Constant) and file not in PUT_TOGETHER
    ]
    assert strange == [], "use hub.engine.regex for a pattern of a person"


def test_no_other_way_to_a_backtracking_pattern():
    strange = []
    for file, nodes in python_files(r"fnmatch|glob\b|sre_compile|regex\b|from re\b"):
        for node in nodes:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            strange += [
                (file, name)
                for name in names
                if name in ("fnmatch", "glob", "sre_compile", "regex")
            ]
            if isinstance(node, ast.ImportFrom) and node.module == "re":
                strange.append((file, "from re import"))
            if (
                isinstance(node, ast.keyword)
                and node.arg
                and node.arg.endswith(("__regex", "__iregex"))
            ):
                strange.append((file, node.arg))
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.endswith(("__regex", "__iregex"))
            ):
                strange.append((file, node.value))
    assert strange == []


def texts(pattern, size):
    """Yield texts that make a pattern go back: runs of what it repeats, and then no end."""
    runs = {c for c in pattern if c.isalnum() or c in " -_.:/,=@\"'{}[]()<>*#"} | set(
        ' a0.-"\\\n,(/'
    )
    for run in sorted(runs):
        for head in ("", "a", "{{", '"', "v1", "://", "-----BEGIN CERTIFICATE-----", "clusters "):
            yield head + run * size + "\x00"
        # A dot stops at the end of a line, and `$` before the last one.
        yield from (run * size + end for end in ("\n\n", "\nx\n", "\r\n\x00"))
        yield (run * 8 + "\n") * (size // 8) + "\x00"
    for run in ("a.", "a-", "1.", " a", "a,", "a:", "a=", '{{"', "a/", "1,", ",(", "aA", "{{ "):
        yield run * (size // 2) + "\x00"
        yield run * (size // 2) + "\n\n"


def is_slow(look, pattern, size, limit):
    for text in texts(pattern, size):
        # A busy machine may hold up one of them.
        if all(seconds(look, text) > limit for _ in range(3)):
            return repr(text[:40])
    return ""


def seconds(look, text):
    begun = time.process_time()
    look(text)
    return time.process_time() - begun


def flags_of(call):
    names = re.findall(r"re\.(IGNORECASE|DOTALL|VERBOSE|MULTILINE|ASCII)", call)
    return sum(getattr(re, name) for name in set(names))


def is_searched(file, pattern, method):
    """Whether a pattern is looked for at every place of a text, and not at its beginning only."""
    if method != "compile":
        return method not in ("match", "fullmatch")
    source = (ROOT / file).read_text()
    names = [
        ast.unparse(n.targets[0])
        for n in nodes_of(file)
        if isinstance(n, ast.Assign)
        and isinstance(n.value, ast.Call)
        and n.value.args
        and ast.unparse(n.value.args[0]) == ast.unparse(pattern)
    ]
    uses = {use for name in names for use in re.findall(rf"\b{re.escape(name)}\.(\w+)\(", source)}
    return not uses or not uses <= {"match", "fullmatch"}


LITERALS = sorted(
    {
        (file, p.value, flags_of(call), is_searched(file, p, how))
        for file, how, p, call in FOUND
        if isinstance(p, ast.Constant) and isinstance(p.value, str)
    }
)


@pytest.mark.parametrize(
    ("file", "pattern", "flags", "searched"),
    LITERALS,
    ids=[f"{f}-{n}" for n, (f, *_) in enumerate(LITERALS)],
)
def test_our_own_patterns_take_little_time(file, pattern, flags, searched):
    expression = re.compile(pattern, flags)
    look = expression.search if searched else expression.fullmatch
    # Small ones first: what is exponential must not stop the tests.
    sizes = (
        ((24, 0.05), (SHORT, 0.05)) if file in BOUNDED else ((24, 0.05), (300, 0.05), (8_000, 0.05))
    )
    for size, limit in sizes:
        assert not is_slow(look, pattern, size, limit), f"{file}: {pattern}"
