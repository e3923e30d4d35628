"""The model server: OpenAI-compatible chat and scores over HTTP, one worker thread that owns the models."""
