import re

import pytest


@pytest.fixture
def watched(page):
    """A page whose scripts must not fail and whose policy must not be broken."""
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: (
            wrong.append(said.text)
            # A provider's own page may want fonts from elsewhere.
            if said.type == "error"
            and not re.search("[Ss]tatus of 4|Error Code 4|NAME_NOT_RESOLVED", said.text)
            else None
        ),
    )
    yield page
    assert wrong == []
