"""The engine protocol (token ids in and out), the in-process decoder, and Rollout batches."""
