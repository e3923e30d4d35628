"""Raise a language model from raw text to an assistant people prefer, with the people in the loop."""

__version__ = "0.1.0"
