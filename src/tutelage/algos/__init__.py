"""Pure tensor functions: masked operations, KL estimators, advantages, losses."""
