"""Pure tensor functions: masked operations, log-probs, KL estimators, advantages, losses, reward shaping. Imports torch only."""
