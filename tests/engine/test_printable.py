import pytest

from hub.engine.printable import printable


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        pytest.param("plain ü", "", "plain ü", id="plain"),
        pytest.param("a\nb", "", "a\\nb", id="a new line"),
        pytest.param("a\nb\t", "\n", "a\nb\\t", id="a new line that is kept"),
        pytest.param("\x1b[2J", "", "\\x1b[2J", id="a terminal's escape"),
        pytest.param("\u202ea\u200b", "", "\\u202ea\\u200b", id="what turns or hides"),
    ],
)
def test_what_does_not_print_is_escaped(text, keep, expected):
    assert printable(text, keep) == expected
