"""Commands by group; a module is loaded only when its group is used."""
