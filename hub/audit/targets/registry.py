"""The kinds of targets of forwarded events. A new one is an entry here."""

from hub.audit.targets.base import Target
from hub.audit.targets.syslog import SYSLOG
from hub.audit.targets.webhook import WEBHOOK

TARGETS: dict[str, Target] = {target.name: target for target in (SYSLOG, WEBHOOK)}
