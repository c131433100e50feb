"""Templates of application sets: Go templates, and the older form `{{ name }}`."""
