"""One readable training loop per file."""
