"""The embedded world: grammar, gold preference, panel of simulated labelers. Never imports torch."""
