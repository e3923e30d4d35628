"""One file per verb; heavy imports stay inside the functions."""
