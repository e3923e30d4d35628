"""The exact-optimum task and its independent solver."""
