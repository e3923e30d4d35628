"""The ledger: artifact <- run <- data, labels, labelers. Never imports torch."""
