"""Commands by group; each module is loaded only when its group is asked for."""
