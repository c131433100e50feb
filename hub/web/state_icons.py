"""The tone and icon of each state on pages."""

_STATES = {
    "Healthy": ("ok", "healthy"),
    "Synced": ("ok", "synced"),
    "Succeeded": ("ok", "check"),
    "Successful": ("ok", "healthy"),
    "Progressing": ("busy", "progressing"),
    "Running": ("busy", "progressing"),
    "Pending": ("busy", "progressing"),
    "Terminating": ("busy", "progressing"),
    "OutOfSync": ("drift", "outofsync"),
    "Degraded": ("bad", "degraded"),
    "Failed": ("bad", "degraded"),
    "Error": ("bad", "degraded"),
    "Suspended": ("held", "suspended"),
    "Waiting": ("held", "waiting"),
    "Missing": ("none", "missing"),
}
_OTHER_STATES = {"Unknown": ("none", "unknown")}


def tone_and_icon(word: str, *, sync: bool = False) -> tuple[str, str]:
    """Return tone and icon of a state; a sync that is unknown is a square."""
    if sync and word not in ("Synced", "OutOfSync"):
        return "none", "syncunknown"
    return _STATES.get(word) or _OTHER_STATES["Unknown"]


def tone(word: str) -> str:
    """Return the tone of a state."""
    return tone_and_icon(word)[0]
