"""What the store and the queue refuse."""

from __future__ import annotations

from ..base.errors import TutelageError


class StoreError(TutelageError):
    """The database could not be opened, read or written; what was asked was not done.

    what: the same without where the database is, for people whom that is no concern of.
    """

    def __init__(self, message: str, *, hint: str | None = None, what: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.what = what or message


class ContentError(TutelageError):
    """A prompt, answer, task, labeler or value that cannot be stored as it is."""


class QueueError(TutelageError):
    """The queue said no."""


class KeptError(QueueError):
    """A no that keeps what was typed: the writer commits what the refusing work had written, which is the draft."""


class ErasedError(QueueError):
    """What this is about was erased, or who sends it: nothing that was typed is kept, since it may repeat it."""

    def __init__(self) -> None:
        super().__init__("what this is about was erased, so nothing that you wrote about it was kept", hint="go on with the next task")


class RetrainError(TutelageError):
    """No reward model was trained."""


def keeps_writes(error: BaseException) -> bool:
    """Whether the work that raised this is committed rather than rolled back."""
    return isinstance(error, KeptError)
