"""REST of applications, projects and repositories."""
