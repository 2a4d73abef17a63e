"""The demo: a site that searches movies, and one command that runs all its processes."""
