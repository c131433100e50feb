"""Compare Kubernetes quantities by value."""

import re
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(
    r"^([+-]?[0-9]*\.?[0-9]+|[+-]?[0-9]+\.)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?$"
)
_SUFFIX = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}


_LONGEST = 64


def parse_quantity(value: Any) -> Decimal | None:
    """Parse a quantity; return None if it is invalid.

    Units: "1" is one core or one byte; "100m" is 0.1; "1Ki" is 1024.
    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    match = _QUANTITY.match(text) if len(text) <= _LONGEST else None
    if not match:
        return None
    number, exponent, suffix = match.groups()
    try:
        return Decimal(number + (exponent or "")) * _SUFFIX.get(suffix or "", Decimal(1))
    except ArithmeticError:
        return None


def same_quantity(one: Any, other: Any) -> bool:
    """Return whether both values are quantities and equal."""
    first = parse_quantity(one)
    return first is not None and first == parse_quantity(other)
