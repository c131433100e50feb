"""The watcher: one session for each cluster, discovery, one watch for each kind."""
