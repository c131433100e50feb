"""Pages of application sets, and of clusters, which combine information from every app."""
