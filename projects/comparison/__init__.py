"""The comparison of desired manifests with live resources: why something is OutOfSync."""
