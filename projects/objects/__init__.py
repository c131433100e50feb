"""Applications and projects as objects: specs, manifests, and their creation and deletion."""
