"""Destinations: dry runs, applying and deleting in a cluster, or in the hub for its own kinds."""
