"""Access decisions: what a caller, a project or an application may see, reach and change."""
