"""What changes a cluster: syncs, deletions with their hooks, changes of single resources."""
