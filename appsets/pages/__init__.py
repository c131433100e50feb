"""Pages of application sets and of clusters, which show what all apps know of a cluster."""
