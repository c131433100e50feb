"""Which jq programs are refused: by what they are, not by the words that are in them."""

import jq
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from hub.engine.errors import RuleError
from hub.engine.jq_syntax import REFUSED, require_allowed

VALUE = {"env": [{"name": "input", "value": "debug"}], "a": {"b/c": 1}, "import": None, "n": 3}


@pytest.mark.parametrize(
    "program",
    [
        ".spec.template.spec.containers[].env[].value",
        ".env",
        '."env"',
        '.["env"]',
        ".input.inputs",
        ".a.debug?",
        ".stderr",
        ".include.import",
        '.[] | select(.name == "debug")',
        '.a | select(. != "$ENV")',
        '.["a/b"]',
        '.["it\'s"]',
        r'.["say \"env\""]',
        '.metadata.annotations["example.com/import"]',
        "{env: 1}",
        "{env}",
        "{env, input: 2, import: 3}",
        '{"env": .env}',
        "{a: .env}",
        ". as {env: $x} | $x",
        ". as {$input} | $input",
        ". as {env: [$a, {b: $c}]} | $c",
        ".a as $x | .b | select(. == $x)",
        "if .env then .a elif .input then .b else .c end",
        '.[] | select(.name | test("^(env|input)$"))',
        "reduce .env[] as $e (.; .)",
        "foreach .[] as $x (0; . + 1; .)",
        "def env: .env; env",
        "def f(env): env; f(.a)",
        "def f($input): $input; f(.a)",
        "def f: def debug: .a; debug; f",
        "def f(g): .a | g; f(.b)",
        ". as $ENV | $ENV.a",
        "reduce .a as $ENV (0; $ENV)",
        "def f($ENV): $ENV; f(1)",
        "label $ENV | ., break $ENV",
        ". as [$x] ?// $x | $x",
        "[.. | .env? // empty]",
        '"env $ENV input \\\\(debug)"',
        '"\\(.env)"',
        "@text",
        '@base64 "env: \\(.env)"',
        ".a # env and $ENV, input\n",
        ".a # env \\\n env \\\n $ENV\n | .b",
        "# input",
        ".inputs_of_env, .environment, .a_debug",
        "def environment: .a; environment",
        "[limit(3; repeat(1))]",
        "recurse(.env[]?)",
        "walk(.)",
        'to_entries[] | select(.key != "env") | .value',
        "def r: ., (.[]? | r); r",
        'def r: if type == "array" then .[] | r else . end; r',
        "def r: .a // r; .",
        ".a[1:2]",
        ".[.n:]",
        ".1",
        ".a.[0]",
        'try error("env") catch .',
        ".. |= .",
        "$__loc__x // 1",
        "a::env",
        "input_line_number",
        "now",
        'getpath(["env", 0])',
        '[splits("input")]',
        ".a|=.b|.c//=1",
        "{(.a|tostring): .env}",
        '{@base32 "env": 1}',
        "{$x}",
    ],
)
def test_words_in_other_places_are_no_functions(program):
    require_allowed(program)


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("env", "env"),
        ("env.PATH", "env"),
        (".a[env.PATH]", "env"),
        ("$ENV", "$ENV"),
        ("$ENV.PATH", "$ENV"),
        (".a | input", "input"),
        ("[inputs]", "inputs"),
        ("first(inputs)", "inputs"),
        ("debug", "debug"),
        ("debug(.a)", "debug"),
        (".a|stderr", "stderr"),
        ("input_filename", "input_filename"),
        ("halt", "halt"),
        ("halt_error", "halt_error"),
        ("halt_error(1)", "halt_error"),
        ('"a" | modulemeta', "modulemeta"),
        ("get_search_list", "get_search_list"),
        ("$__loc__.file", "$__loc__"),
        ("{$__loc__}", "$__loc__"),
        ("{$ENV}", "$ENV"),
        ("$__prog_args", "$__prog_args"),
        ('import "a" as a; .', "import"),
        ('include "a"; .', "include"),
        ('import "a" as $a; $a', "import"),
        ("{a: env}", "env"),
        ("{(env|keys[0]): 1}", "env"),
        ('{"\\(env)": 1}', "env"),
        ('"\\(env.PATH)"', "env"),
        ('"a\\("b\\(input)")"', "input"),
        ('@json "\\($ENV)"', "$ENV"),
        ('."\\(env)"', "env"),
        ('.["\\(env)"]', "env"),
        (".[env:1]", "env"),
        (".env[env.X]", "env"),
        (". as {(env): $x} | $x", "env"),
        ('. as {"\\(env)": $x} | $x', "env"),
        ("reduce env as $x (0; .)", "env"),
        ("reduce . as $ENV ($ENV; .)", "$ENV"),
        ("foreach .[] as $x (0; env; .)", "env"),
        (". as $ENV | 1, (. as $x | env)", "env"),
        ("(. as $ENV | 1), $ENV", "$ENV"),
        ("(def env: 1; env), env", "env"),
        ("def env(f): 1; env", "env"),
        ("def f: env; f", "env"),
        ("def f(env): 1; env", "env"),
        ("def f: def env: 1; 2; env", "env"),
        ("if env then 1 else 2 end", "env"),
        ("if .a then .b elif input then 1 end", "input"),
        ("if . then . else debug end", "debug"),
        ("try env catch .", "env"),
        ("try .a catch env", "env"),
        ("-env", "env"),
        (".a // env", "env"),
        (".a |= env", "env"),
        ("label $f | env", "env"),
        ("# comment\nenv", "env"),
        ("# odd \\\\\nenv", "env"),
        ("[.[] | select(. == env.HOME)]", "env"),
        ("path(env)", "env"),
        ("getpath([env.A])", "env"),
        ("limit(1; inputs)", "inputs"),
        ('error("\\(env)")', "env"),
        ("{a: 1, b: {c: [env]}}", "env"),
        ("def f: f; f", "f"),
        ("def f: .a | f; f", "f"),
        ("def f: [f]; f", "f"),
        ("def f(g): f(g); f(.)", "f"),
        ("def f: 1 + f; 2", "f"),
        ("def f: {a: f}; f", "f"),
        ("def f: if f then 1 else 2 end; f", "f"),
        ("def g: def f: f; f; g", "f"),
        ('def f: "\\(f)"; f', "f"),
    ],
)
def test_functions_that_are_not_available_are_refused(program, named):
    with pytest.raises(RuleError, match=r"jqPathExpressions: .*(not available|itself)") as raised:
        require_allowed(program)
    assert named in str(raised.value).removeprefix(f"jqPathExpressions: {program!r}")


@pytest.mark.parametrize(
    "program",
    [
        ".a)",
        "(.a",
        ".a]",
        '"a',
        '"\\(.a"',
        "{a: 1",
        ".a\x00| env",
        ".é",
        "def f: 1",
        "def f",
        "def f(",
        "def f($): 1; .",
        "if . then",
        "if . end",
        ". as",
        ". as $x",
        ". as {",
        "reduce . as $x",
        "reduce . as $x (",
        "{a: 1;}",
        "1; 2",
        "(" * 200 + "." + ")" * 200,
        "f(1",
        "f(",
        ". end",
        "'a'",
    ],
)
def test_what_is_no_program_is_refused(program):
    with pytest.raises(RuleError, match="is not a valid jq path"):
        require_allowed(program)


names = st.sampled_from(["env", "input", "debug", "import", "if", "a", "x_1", "ENV", "end"])
plain_names = st.sampled_from(["a", "b", "env", "input", "debug"])
texts = st.sampled_from(
    ['"env"', '"$ENV"', '"a/b"', r'"a\"input\""', '"[env]"', '"#"', '"it\'s"', r'"\\"']
)


def programs(leaf):
    """Programs of every form of the grammar with `leaf` at their ends; `$x` may be bound."""

    def larger(inner):
        two, both = st.tuples(inner, inner), [inner, inner]
        return st.one_of(
            st.builds("({} | {})".format, *both),
            st.builds("{}, {}".format, *both),
            st.builds("[{}]".format, inner),
            st.builds("({} // {})".format, *both),
            two.map(lambda p: f"(if {p[0]} then {p[1]} end)"),
            two.map(lambda p: f"(if . then 1 elif {p[0]} then 2 else {p[1]} end)"),
            st.builds("(try ({}) catch ({}))".format, *both),
            st.builds("(({}) as $x | {})".format, *both),
            st.builds("(({0}) as {{{1}: $x}} | {2})".format, inner, names, inner),
            st.builds("(({}) as [$x, {{$y}}] ?// $x | {})".format, *both),
            st.builds("reduce ({}) as $x (0; {})".format, *both),
            st.builds("foreach .[]? as $x ({}; .; {})".format, *both),
            st.builds("{{{0}: ({1}), {2}}}".format, names, inner, plain_names),
            st.builds('{{"k\\({})": 1}}'.format, inner),
            st.builds('"s \\({}) e"'.format, inner),
            st.builds('@json "\\({})"'.format, inner),
            st.builds("(def f: {}; {})".format, *both),
            st.builds("(def f(g; $x): ({}); {})".format, *both),
            st.builds("map({})".format, inner),
            st.builds("first({})".format, inner),
            st.builds("(label $out | {})".format, inner),
            st.builds(".a[({})]?".format, inner),
            st.builds("({}) # env, $ENV\n".format, inner),
            st.builds("({}) # \\\n env \\\r\n $ENV\n".format, inner),
            st.builds("(({}) | .. | select({}))".format, *both),
            st.builds('{{("a"): {}}}'.format, inner.map(lambda p: f"({p})")),
            st.builds(".[({})?:2]".format, inner),
            st.builds("-({})".format, inner),
            st.builds("(({}) and ({}))".format, *both),
            st.builds("path(({}) | .a?)".format, inner),
        )

    return st.recursive(leaf, larger, max_leaves=5)


ends = st.one_of(
    names.map(".{}".format),
    texts,
    texts.map(".[{}]?".format),
    texts.map(".{}".format),
    names.map("{{{}}}".format),
    st.sampled_from(
        [
            ".",
            "..",
            "1",
            ".5",
            "1e3",
            "not",
            "null",
            "@base64",
            ".[]?",
            "length?",
            'test("env")?',
            "{if: 1}",
            "(1 as $ENV | $ENV)",
            "(def input: 1; input)",
        ]
    ),
)
forbidden = st.sampled_from(
    [
        *sorted(REFUSED - {"modulemeta"}),
        "$ENV",
        "$__loc__",
        "{$ENV}",
        "debug(.)",
        "{a: env}",
        '"\\(env)"',
        "(def env(f): 1; env)",
    ]
)


def compiles(program):
    try:
        jq.compile(program)
    except ValueError:
        return False
    return True


@seed(16)
@settings(max_examples=400, deadline=None)
@given(program=programs(ends))
def test_what_jq_compiles_is_accepted_as_it_is(program):
    if compiles(program):
        require_allowed(program)


@seed(16)
@settings(max_examples=400, deadline=None)
@given(program=programs(forbidden))
def test_what_is_refused_is_refused_everywhere(program):
    # The forms that bind a variable shadow none of these names.
    if compiles(program):
        with pytest.raises(RuleError, match="not available"):
            require_allowed(program)


PIECES = [
    "env",
    "$ENV",
    ".env",
    '"',
    "\\(",
    ")",
    "(",
    "{",
    "}",
    "[",
    "]",
    "#",
    "\n",
    "\\",
    "\r",
    ":",
    ",",
    ";",
    "|",
    " ",
    "def f:",
    "as $x|",
    ".a",
    "1",
    "$",
    "@",
    "env",
    "input",
    "a",
    "::",
    "?//",
    ".",
    "reduce",
    "if ",
    " then ",
    " end",
    "\t",
]


@seed(16)
@settings(max_examples=1500, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=12))
def test_no_mixture_of_pieces_reaches_the_environment(pieces):
    """What passes means the same to jq: the environment of this process is in no result."""
    program = "".join(pieces)
    try:
        require_allowed(program)
    except RuleError:
        return
    if compiles(program):
        try:
            found = jq.compile(program).input_value(VALUE).all()
        except ValueError:
            return
        assert "PATH" not in str(found)
