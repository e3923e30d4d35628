"""Shared dataclasses, errors, config loading, atomic files, progress, logging. Never imports torch."""
