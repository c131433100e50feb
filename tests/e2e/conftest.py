import re

import pytest

# What the console may say: a refusal that the page shows itself; a provider's own page that wants
# fonts from elsewhere;
# a look that newer input replaced (htmx names its end, then the reason: any other reason still
# counts).
EXPECTED = re.compile(
    "[Ss]tatus of 4|Error Code 4|NAME_NOT_RESOLVED|^htmx:(afterRequest|sendAbort)\\b"
)


@pytest.fixture
def watched(page):
    """A page whose scripts must not fail and whose policy must not be broken."""
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: (
            wrong.append(said.text)
            if said.type == "error" and not EXPECTED.search(said.text)
            else None
        ),
    )
    yield page
    assert wrong == []
