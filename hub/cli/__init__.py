"""The command line; imports no Django."""
