"""Sources of an application: resolve revisions, fetch files, render manifests.

Other packages import from here; the modules below are one per source type, tool or concern.
"""

from projects.sources.desired import Desired, ignored_files, load, load_local, unchanged
from projects.sources.render_context import Context, context_of, versions_of
from projects.sources.source_types import files_of, kind_of, resolve
from projects.sources.spec_checks import MAX_SOURCES, check_sources
from projects.sources.tools import detect

__all__ = [
    "MAX_SOURCES",
    "Context",
    "Desired",
    "check_sources",
    "context_of",
    "detect",
    "files_of",
    "ignored_files",
    "kind_of",
    "load",
    "load_local",
    "resolve",
    "unchanged",
    "versions_of",
]
