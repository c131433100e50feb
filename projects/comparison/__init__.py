"""Compare desired manifests with live resources, to explain why something is OutOfSync."""
