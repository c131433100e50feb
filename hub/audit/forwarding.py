"""Forward sealed events, in order and at least once, to the targets of `hub.audit.targets`."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from hub.audit import chain
from hub.audit.targets.registry import TARGETS
from hub.audit.targets.webhook import revealed
from hub.base.outbound import http
from hub.engine.errors import Invalid
from hub.models import AuditLink, Setting, change_setting, setting

log = logging.getLogger(__name__)

_CONFIG, _STATE = "audit_forward", "audit_forward_state"
BATCH = 200
LONGEST_PAUSE = timedelta(minutes=5)


def configure(wanted: dict[str, Any]) -> None:
    """Store the targets; a webhook without a secret keeps the one it has.

    Raises: Invalid naming the field.
    """
    config: dict[str, Any] = {}
    unknown = wanted.keys() - TARGETS.keys()
    if unknown:
        raise Invalid(f"{min(unknown)!r} is not a target; the targets are {' and '.join(TARGETS)}")
    stored = setting(_CONFIG, {})
    for name, target in TARGETS.items():
        if wanted.get(name):
            config[name] = target.check(wanted[name], stored.get(name) or {})
    state = setting(_STATE, {})
    change_setting(_CONFIG, config)
    # A new target receives events from now on; a changed one is tried at once.
    states = {t: {"through": state.get(t, {}).get("through", _head())} for t in config}
    change_setting(_STATE, states)


def _head() -> int:
    head = AuditLink.objects.order_by("-sequence").values_list("sequence", flat=True).first()
    return head or 0


def webhook() -> dict[str, str] | None:
    """Return the webhook with its secret in the clear, for an encrypted export; None without one.

    Raises: UnreadableSecret.
    """
    config = setting(_CONFIG, {}).get("webhook")
    return revealed(config) if config else None


def shown() -> dict[str, Any]:
    """Return the targets without secrets, with their progress, last error and next attempt."""
    config, state = setting(_CONFIG, {}), setting(_STATE, {})
    result: dict[str, Any] = {
        name: target.shown(config[name]) if config.get(name) else None
        for name, target in TARGETS.items()
    }
    for name in config:
        own = state.get(name, {})
        found = {
            "sentThrough": own.get("through", 0),
            "error": own.get("error", ""),
            "nextTry": own.get("next", ""),
        }
        result[name] = {**result[name], **{k: v for k, v in found.items() if v != ""}}
    through = [state.get(name, {}).get("through", 0) for name in config]
    errors = [f"{n}: {state[n]['error']}" for n in config if state.get(n, {}).get("error")]
    return {**result, "sentThrough": min(through, default=0), "error": "; ".join(errors)}


def send(now: datetime | None = None) -> int:
    """Send each target the newly sealed events; return how many. Failures are retried later.

    A failing target does not delay the other one; its retries begin after 5 s and become less
    frequent.
    """
    now, config = now or timezone.now(), setting(_CONFIG, {})
    state, head = setting(_STATE, {}) if config else {}, _head()
    due = [name for name in config if _is_due(state.get(name, {}), head, now)]
    if not due:
        return 0
    with chain.only_one("forward") as mine:
        return sum(_send_all(name, config[name], now) for name in due) if mine else 0


def _is_due(own: dict[str, Any], head: int, now: datetime) -> bool:
    return bool(own.get("through", 0) < head and own.get("next", "") <= now.isoformat())


def _store_progress(name: str, own: dict[str, Any]) -> None:
    """Store the progress of a target, unless the target was removed or changed in the meantime."""
    with transaction.atomic():
        row = Setting.objects.select_for_update().filter(name=_STATE).first()
        if row is not None and name in row.value:
            row.value = {**row.value, name: own}
            row.save()


def _send_all(name: str, target: dict[str, Any], now: datetime) -> int:
    own = setting(_STATE, {}).get(name, {})
    through, total, size = own.get("through", 0), 0, BATCH
    while through < (head := _head()):
        rows = list(chain.rows(through + 1, min(head, through + size)))
        try:
            TARGETS[name].send(target, rows)
        except Exception as error:  # a failing target must stop neither the other one nor the trail
            if size > 1 and _is_too_much(error):
                size //= 2
                continue
            failures = own.get("failures", 0) + 1
            pause = min(LONGEST_PAUSE, timedelta(seconds=5 * 2 ** min(failures - 1, 10)))
            text = f"{type(error).__name__}: the target did not take events from {through + 1} on"
            _store_progress(
                name,
                {
                    "through": through,
                    "error": text,
                    "failures": failures,
                    "next": (now + pause).isoformat(),
                },
            )
            log.warning("audit forwarding to the %s: %s", name, text)
            return total
        through, total, own = rows[-1]["sequence"], total + len(rows), {}
        _store_progress(name, {"through": through})
    return total


def _is_too_much(error: Exception) -> bool:
    return isinstance(error, http.StatusError) and error.response.status_code == 413
