"""Shared dataclasses, errors, config loading, atomic files, progress, logging, splits by hash, near duplicates. Never imports torch."""
