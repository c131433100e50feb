"""Refreshing applications: the triggers, the refresh itself, and the status that it stores."""
