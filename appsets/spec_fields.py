"""The types of the fields of an ApplicationSet's spec.

Fields that are not listed may hold anything.
Source: the ApplicationSet definition of Argo CD 3.6, and `spec.flotilla`.
"""

from collections.abc import Mapping
from typing import Any

from appsets.generators.base import Generator
from appsets.generators.field_types import (
    COUNT,
    FLAG,
    NUMBER,
    SELECTOR,
    TEMPLATE,
    TEXT,
    TEXTS,
    Check,
    each,
    of,
)
from appsets.generators.registry import GENERATORS


def _generators(value: Any, where: str) -> None:
    each(_GENERATOR)(value, where)


def _block(generator: Generator) -> Check:
    nested = {"generators": _generators} if generator.has_children else {}
    return of(**generator.fields, **nested)


_GENERATOR = of(selector=SELECTOR, **{name: _block(g) for name, g in GENERATORS.items()})
_ROLLOUT: dict[str, Check] = {"soak": TEXT, "maxDegraded": COUNT}
SPEC = of(
    goTemplate=FLAG,
    goTemplateOptions=TEXTS,
    generators=each(_GENERATOR),
    template=TEMPLATE,
    templatePatch=TEXT,
    syncPolicy=of(preserveResourcesOnDeletion=FLAG, applicationsSync=TEXT),
    strategy=of(
        type=TEXT,
        deletionOrder=TEXT,
        rollingSync=of(
            steps=each(
                of(
                    matchExpressions=each(of(key=TEXT, operator=TEXT, values=TEXTS)),
                    maxUpdate=COUNT,
                )
            )
        ),
    ),
    preservedFields=of(labels=TEXTS, annotations=TEXTS),
    ignoreApplicationDifferences=each(of(name=TEXT, jsonPointers=TEXTS, jqPathExpressions=TEXTS)),
    flotilla=of(
        deletion=of(maxApplications=NUMBER, maxPercent=NUMBER),
        rollout=of(steps=each(of(**_ROLLOUT)), **_ROLLOUT),
    ),
)


def check_spec(spec: Mapping[str, Any]) -> None:
    """Check the type of every field of a spec.

    Raises: RuleError naming the first wrong field.
    """
    SPEC(spec, "spec")
