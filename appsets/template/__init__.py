"""Templates of application sets: Go's, with the functions that Argo CD has, and the older plain form."""
