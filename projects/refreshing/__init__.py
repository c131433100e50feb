"""When an application is refreshed, the refresh itself, and the status that it stores."""
