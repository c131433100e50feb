"""The functions that templates may call: Go's own, sprig's and Argo CD's, one module per family.

Functions of sprig that return another value at each call (random values, the time, keys) are
refused, because an application would change by itself. `env`, `expandenv` and `getHostByName` do
not exist.
Source: https://pkg.go.dev/text/template#hdr-Functions, https://masterminds.github.io/sprig/.
"""

from collections.abc import Callable
from typing import Any

from appsets.template.functions import (
    argocd,
    arithmetic,
    encoding,
    go,
    lists,
    logic,
    maps,
    paths,
    refused,
    regexes,
    texts,
    versions,
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **go.FUNCTIONS,
    **argocd.FUNCTIONS,
    **texts.FUNCTIONS,
    **regexes.FUNCTIONS,
    **arithmetic.FUNCTIONS,
    **logic.FUNCTIONS,
    **lists.FUNCTIONS,
    **maps.FUNCTIONS,
    **encoding.FUNCTIONS,
    **paths.FUNCTIONS,
    **versions.FUNCTIONS,
    **refused.FUNCTIONS,
}
