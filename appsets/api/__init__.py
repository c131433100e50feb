"""REST of application sets and their streams."""
