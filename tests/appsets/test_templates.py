"""Go templates by the documentation of Go, sprig and Argo CD."""

import time

import pytest

from appsets.template.evaluate import render
from appsets.template.render import application_from
from appsets.template.syntax import TemplateError

DATA = {
    "a": 1,
    "b": {"c": "x", "l": [1, 2, {"k": "v"}]},
    "s": "Hello World",
    "f": 1.5,
    "t": True,
    "n": None,
    "m": {"z": 1, "y": 2},
    "e": "",
    "el": [],
    "path": {"basename": "app", "segments": ["apps", "prod", "app"]},
    "metadata": {"labels": {"env": "prod", "app.kubernetes.io/name": "n"}},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        # actions and white space
        ("plain", "plain"),
        ("{{.a}}", "1"),
        ("a {{- .a -}} b", "a1b"),
        ("{{/* note */}}x", "x"),
        ("{{- /* note */ -}} x", "x"),
        ('{{"}}"}}', "}}"),
        ("{{`{{raw}}`}}", "{{raw}}"),
        # values
        ("{{1}} {{-2}} {{0x1F}} {{1.50}} {{1e3}} {{true}} {{'a'}}", "1 -2 31 1.5 1000 true 97"),
        (r'{{"tab\t\"q\" \u00fc"}}', 'tab\t"q" ü'),
        ("{{.nope}} {{.b.nope}}", "<no value> <no value>"),
        ("{{.n}}", "<no value>"),
        ("{{.b}} {{.b.l}}", "map[c:x l:[1 2 map[k:v]]] [1 2 map[k:v]]"),
        ("{{.f}}", "1.5"),
        ("{{$.a}}", "1"),
        # pipelines and variables
        ("{{.s | upper | quote}}", '"HELLO WORLD"'),
        ('{{printf "%d-%s" .a .b.c}}', "1-x"),
        ("{{$x := .a}}{{$x}}", "1"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{(index .b.l 2).k}}", "v"),
        ("{{len (print .a .a)}}", "3"),
        # conditions
        ("{{if .a}}y{{else}}n{{end}}", "y"),
        ("{{if .e}}y{{else if .t}}t{{else}}n{{end}}", "t"),
        ("{{if not .el}}empty{{end}}", "empty"),
        ("{{if and .a .e}}y{{else}}n{{end}}", "n"),
        ('{{or .e "d"}}', "d"),
        ('{{and 1 0 (fail "never")}}', "0"),
        ("{{if eq .a 2 1}}y{{end}}", "y"),
        (
            '{{ne .a 1}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 1 2}} {{eq "a" "b"}}',
            "false true true false false false",
        ),
        ("{{if eq .nope nil}}y{{end}}", "y"),
        # with
        ("{{with .b}}{{.c}}{{end}}", "x"),
        ("{{with .e}}y{{else}}n{{end}}", "n"),
        ("{{with $y := .b.c}}{{$y}}{{.}}{{end}}", "xx"),
        ("{{with .e}}y{{else with .a}}{{.}}{{end}}", "1"),
        # range
        ("{{range .b.l}}[{{.}}]{{end}}", "[1][2][map[k:v]]"),
        ("{{range $i, $v := .b.l}}{{$i}}{{end}}", "012"),
        ("{{range $k, $v := .m}}{{$k}}{{$v}}{{end}}", "y2z1"),
        ("{{range .el}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            (
                "{{range until 5}}{{if eq . 1}}{{continue}}{{end}}{{if eq . "
                "3}}{{break}}{{end}}{{.}}{{end}}"
            ),
            "02",
        ),
        ("{{range $v := .b.l}}{{$.a}}{{end}}", "111"),
        ("{{range .nope}}x{{else}}e{{end}}", "e"),
        # templates
        ('{{define "t"}}<{{.}}>{{end}}{{template "t" .a}}', "<1>"),
        ('{{block "b" .b}}{{.c}}{{end}}', "x"),
        # Go's functions
        ('{{index .m "z"}} {{index .b.l 0}} {{slice .s 1 3}} {{slice .b.l 0 1}}', "1 1 el [1]"),
        ('{{print 1 2 "a" 3 4}}', "1 2a3 4"),
        (
            '{{printf "%05d|%-4s|%q|%v|%t|%x|%.2f|%%" 42 "ab" "x" .m .t 255 1.0}}',
            '00042|ab  |"x"|map[y:2 z:1]|true|ff|1.00|%',
        ),
        ('{{html "<a>"}} {{urlquery "a b&c"}}', "&lt;a&gt; a+b%26c"),
        ('{{len .b.l}} {{len .m}} {{len "ü"}}', "3 2 2"),
        ('{{printf "%d"}} {{printf "x" 1}}', "%!d(MISSING) x%!(EXTRA int=1)"),
        # Argo CD's
        ('{{normalize "My_App.Name!"}}', "my-app.name"),
        ('{{slugify "Feature/Some Thing"}}', "feature-some-thing"),
        ('{{slugify 12 true "feature-branch-name"}}', "feature"),
        ('{{slugify 12 false "feature-branch-name"}}', "feature-bran"),
        ("{{toYaml .m}}", "y: 2\nz: 1"),
        ('{{(fromYaml "a: {b: 1}").a.b}}', "1"),
        ('{{index (fromYamlArray "[a, b]") 1}}', "b"),
        ("{{toJson .b}}", '{"c":"x","l":[1,2,{"k":"v"}]}'),
        ('{{(fromJson `{"a":[1]}`).a}}', "[1]"),
        # sprig
        ('{{default "d" .e}} {{default "d" .s}} {{.nope | default "d"}}', "d Hello World d"),
        ('{{ternary "y" "n" .t}} {{coalesce .e .n 3}} {{empty .el}}', "y 3 true"),
        (
            '{{trim "  a "}}|{{trimSuffix "b" "ab"}}|{{trimPrefix "a" "ab"}}|{{trimAll "-" "-a-"}}',
            "a|a|b|a",
        ),
        (
            (
                '{{replace " " "-" .s}} {{lower .s}} {{title "a b"}} {{repeat 2 "ab"}} {{substr 0 '
                "2 .s}} {{trunc 3 .s}} {{trunc -3 .s}}"
            ),
            "Hello-World hello world A B abab He Hel rld",
        ),
        ('{{contains "lo" .s}} {{hasPrefix "He" .s}} {{hasSuffix "x" .s}}', "true true false"),
        ('{{splitList "," "a,b" | join "-"}} {{(split "," "a,b")._1}}', "a-b b"),
        ('{{quote 1 "a"}} {{squote "a"}} {{cat "a" 1}}', '"1" "a" \'a\' a 1'),
        ('{{indent 2 "a\\nb"}}', "  a\n  b"),
        ('{{nindent 1 "a"}}', "\n a"),
        (
            (
                "{{add 1 2 3}} {{sub 5 2}} {{mul 2 3}} {{div 7 2}} {{mod 7 3}} {{max 1 3 2}} {{min "
                '3 1}} {{add1 1}} {{int "7"}} {{float64 "1.5"}} {{round 3.14159 2}} {{ceil 1.2}} '
                "{{floor 1.8}}"
            ),
            "6 3 6 3 1 3 1 2 7 1.5 3.14 2 1",
        ),
        (
            (
                "{{list 1 2 | first}} {{list 1 2 | last}} {{rest (list 1 2 3)}} {{initial (list 1 "
                "2 3)}} {{append (list 1) 2}} {{prepend (list 1) 0}} {{concat (list 1) (list 2)}} "
                "{{reverse (list 1 2)}} {{uniq (list 1 1 2)}} {{without (list 1 2) 1}} {{has 1 "
                "(list 1)}} {{compact (list 0 1)}}"
            ),
            "1 2 [2 3] [1 2] [1 2] [0 1] [1 2] [2 1] [1 2] [2] true [1]",
        ),
        (
            (
                '{{dict "a" 1 "b" 2}} {{get (dict "a" 1) "a"}} {{hasKey .m "z"}} {{keys .m}} '
                '{{values .m}} {{pick .m "z"}} {{omit .m "z"}} {{dig "c" "d" .b}} {{dig "q" "d" '
                ".b}}"
            ),
            "map[a:1 b:2] 1 true [y z] [2 1] map[z:1] map[y:2] x d",
        ),
        (
            (
                '{{merge (dict "a" 1) (dict "a" 2 "b" 3)}} {{mergeOverwrite (dict "a" 1) (dict "a" '
                '2)}} {{set (dict "a" 1) "b" 2}}'
            ),
            "map[a:1 b:3] map[a:2] map[a:1 b:2]",
        ),
        ('{{b64enc "a"}} {{b64dec "YQ=="}} {{sha256sum "a" | trunc 8}}', "YQ== a ca978112"),
        (
            (
                '{{regexMatch "^H" .s}} {{regexReplaceAll "(l+)" .s "<$1>"}} {{regexFind "o." .s}} '
                '{{regexSplit "o" .s -1}}'
            ),
            "true He<ll>o Wor<l>d o  [Hell  W rld]",
        ),
        (
            '{{base "a/b.c"}} {{dir "a/b"}} {{ext "a.yaml"}} {{clean "a/../b"}} {{isAbs "/a"}}',
            "b.c a .yaml b true",
        ),
        (
            (
                '{{kindOf .m}} {{kindIs "slice" .el}} {{semverCompare ">=1.2.0" "1.3.1"}} '
                '{{semverCompare "^1.2" "2.0.0"}} {{(semver "1.2.3").Minor}}'
            ),
            "map true true false 2",
        ),
        (
            '{{snakecase "FirstName"}} {{kebabcase "FirstName"}} {{camelcase "first_name"}}',
            "first_name first-name FirstName",
        ),
        (
            '{{seq 3}} {{untilStep 0 6 2}} {{plural "one" "many" 2}} {{sortAlpha (list "b" "a")}}',
            "1 2 3 [0 2 4] many [a b]",
        ),
        ('{{(urlParse "https://h:1/p?q=1").hostname}}', "h"),
        ("{{toString 1}}{{print nil}}", "1<no value>"),
        (
            (
                "{{index .path.segments 1}}-{{.path.basename}}-{{index .metadata.labels "
                '"app.kubernetes.io/name"}}'
            ),
            "prod-app-n",
        ),
    ],
)
def test_output_of_templates(template, expected):
    assert render(template, DATA) == expected


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{", "unclosed action"),
        ("{{.a", "unclosed action"),
        ("{{if .a}}", "no {{end}}"),
        ("{{end}}", "unexpected"),
        ("{{else}}", "unexpected"),
        ("{{nope}}", 'function "nope" not defined'),
        ("{{$x}}", "undefined variable"),
        ("{{.a | .b}}", "non-function"),
        ("{{.a.b}}", "can't evaluate field b"),
        ("{{.n.b}}", "nil pointer"),
        ("{{index .b.l 9}}", "out of range"),
        ('{{fail "stop"}}', "stop"),
        ('{{template "no"}}', "not defined"),
        ("{{break}}", "outside"),
        ("{{(.a}}", "unclosed parenthesis"),
        ("{{.a)}}", "unclosed parenthesis"),
        ("{{range .s}}x{{end}}", "can't iterate"),
        ('{{eq 1 "a"}}', "incompatible types"),
        ("{{lt true false}}", "invalid type"),
        ("{{div 1 0}}", "division by zero"),
        ("{{upper}}", "wrong number"),
        ('{{regexMatch "(" "a"}}', "regular expression"),
        ('{{fromYaml "a: ["}}', "line 1"),
        ('{{env "HOME"}}', "not defined"),
        ('{{expandenv "$HOME"}}', "not defined"),
        ('{{getHostByName "a"}}', "not defined"),
        ("{{uuidv4}}", "another value"),
        ("{{now}}", "another value"),
        ("{{''.__class__}}", "unexpected"),
        ("{{.s.__class__}}", "can't evaluate"),
        ("{{.m.__class__.__mro__}}", "<no value>"),
        ('{{repeat 99999999 "x"}}', "characters"),
        ("{{range until 99999}}{{range until 99999}}{{end}}{{end}}", "steps"),
        ('{{define "t"}}{{template "t"}}{{end}}{{template "t"}}', "each other"),
        ('{{range until 2000}}{{repeat 900 "x"}}{{end}}', "writes more"),
        ("{{if 1}}" * 120 + "{{end}}" * 120, "nested deeper"),
        ("a\nb\n{{.a.b}}", "line 3"),
        ('{{ "\\q" }}', "unknown escape"),
        ("{{until 999999999}}", "100000"),
    ],
)
def test_errors_of_templates(template, words):
    if words == "<no value>":
        assert render(template, DATA) == words
        return
    with pytest.raises(TemplateError) as error:
        render(template, DATA)
    assert words in str(error.value)


def test_missing_keys_can_be_errors():
    with pytest.raises(TemplateError, match='no entry for key "nope"'):
        render("{{.nope}}", DATA, missing="error")
    with pytest.raises(TemplateError):
        render("{{.nope.more}}", DATA, missing="error")
    assert render("{{.a}}", DATA, missing="error") == "1"


GREEDY = {
    "text that doubles": (
        '{{ $x := "aaaaaaaaaa" }}{{ range until 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}'
    ),
    "list that doubles": "{{ $x := list 1 }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}",
    "shared lists": (
        "{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ toJson $x }}"
    ),
    "shared maps": (
        '{{ $x := dict "a" 1 }}{{ range until 60 }}{{ $x = dict "a" $x "b" $x }}{{ end }}{{ toYaml '
        "$x }}"
    ),
    "numbers": "{{ $x := 10 }}{{ range until 60 }}{{ $x = mul $x $x }}{{ end }}{{ $x }}",
    "digits": '{{ range until 1000 }}{{ printf "%.1000000000f" 1.0 }}{{ end }}',
    "a long number": "{{ " + "9" * 5000 + " }}",
    "values compared": "{{ uniq (until 100000) }}",
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "actions never closed": "{{" * 400_000,
    "escapes": '{{ $x := "%" }}{{ range until 60 }}{{ $x = urlquery $x $x }}{{ end }}',
    "ranges in ranges": "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}",
    "repeat": '{{ repeat 1000000000 "a" }}',
    "templates": '{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}',
    "octal": '{{ toDecimal "' + "7" * 100_000 + '" }}',
}


@pytest.mark.parametrize("name", GREEDY)
def test_no_template_takes_long_or_much_memory(name):
    begun = time.process_time()

    with pytest.raises(TemplateError):
        render(GREEDY[name], {})

    assert time.process_time() - begun < 3


TOO_LARGE = {
    "replace": '{{ replace "a" (repeat 100000 "b") (repeat 2000 "a") }}',
    "join": '{{ join (repeat 100000 "b") (until 2000) }}',
    "groups": '{{ regexReplaceAll "a+" (repeat 10000 "a") (repeat 30000 "$0") }}',
    "literal": '{{ regexReplaceAllLiteral "a" (repeat 2000 "a") (repeat 100000 "b") }}',
    "indent": '{{ indent 1000 (repeat 200000 "\\n") }}',
    "printf": '{{ printf (repeat 5000 "%10000d") ' + "1 " * 5_000 + "}}",
    "without": "{{ without (until 100000) " + "-1 " * 2_000 + "}}",
    "trimAll": '{{ trimAll (printf "%sa" (repeat 900000 "b")) (repeat 900000 "a") }}',
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_large_values_are_never_created(name):
    """What is weighed when it is made may have ended the hub before."""
    with pytest.raises(
        TemplateError, match=r"more than \d+ characters|longer than \d+|too many values"
    ):
        render(TOO_LARGE[name], {})


@pytest.mark.parametrize(
    "patch",
    [
        "spec: {project: other}",
        '{"spec": {"project": "{{ .cluster }}"}}',
        "metadata: {namespace: other}\noperation: {sync: {}}\nspec: {project: null}",
    ],
)
def test_a_patch_moves_no_application_to_another_project(patch):
    made = application_from(
        {"goTemplate": True, "templatePatch": patch},
        {"metadata": {"name": "a"}, "spec": {"project": "own", "destination": {}}},
        {"cluster": "other"},
    )
    assert made["spec"]["project"] == "own"
