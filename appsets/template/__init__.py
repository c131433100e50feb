"""Templates of application sets: Go templates with Argo CD's functions, and fasttemplate."""
