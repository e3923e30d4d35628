"""Feedback into and out of the store, in every format that other tools read or write."""
