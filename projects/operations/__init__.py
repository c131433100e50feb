"""Changes of clusters: syncs, deletions with their hooks, changes of single resources."""
