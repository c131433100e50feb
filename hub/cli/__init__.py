"""The command line; imports no Django."""

import sys

# The command line of httpx itself, which nobody asks for here, loads a sixth of what a start loads.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
