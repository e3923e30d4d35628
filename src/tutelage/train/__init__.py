"""Run directory, optimiser, schedule, checkpoints, self-audits."""
