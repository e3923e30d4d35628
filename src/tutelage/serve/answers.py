"""One answer while it is written: tokens to text, stop strings, and what may be shown already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutelage.base.records import FinishReason
from tutelage.text.stream import TextStream


class Answer:
    """The text of one row, handed out piece by piece: joined, the answer up to its first stop string, without space around."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], stop_tokens: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish: FinishReason | None = None
        self.text = ""
        """What was handed out."""
        self._stream, self._stops, self._stop_tokens = TextStream(tokenizer), tuple(stops), frozenset(stop_tokens)
        self._drawn = ""                                            # everything, space at the front and stop strings included
        self._at = 0                                                # how much of it is handed out

    def push(self, token: int, logprob: float, finish: FinishReason | None) -> str:
        """Take a token, and whether the row ended with it. Returns what can be shown now; `finish` says whether the answer is over."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.finish = finish
        before = len(self._drawn)
        if token not in self._stop_tokens:
            self._drawn += self._stream.push(token)
        if finish:
            self._drawn += self._stream.flush()
        end = self._stopped(before)
        if end is not None:
            self._drawn, self.finish = self._drawn[:end], "stop"
        return self._show()

    def _stopped(self, before: int) -> int | None:
        """Where the stop string starts that was whole first, and of two whole at once the longer; what stood `before` holds none."""
        found = []
        for stop in self._stops:
            at = self._drawn.find(stop, max(0, before - len(stop) + 1))
            if at >= 0:
                found.append((at + len(stop), at))
        return min(found)[1] if found else None

    def _show(self) -> str:
        safe = self._drawn.rstrip() if self.finish else self._drawn[: len(self._drawn) - self._maybe_stop()].rstrip()
        piece = safe[self._at :]
        if not self.text:
            piece = piece.lstrip()
        if piece:
            self._at = len(safe)
            self.text += piece
        return piece

    def _maybe_stop(self) -> int:
        """Characters at the end that a stop string may begin with."""
        longest = max(map(len, self._stops), default=1) - 1
        tails = (self._drawn[-n:] for n in range(min(longest, len(self._drawn)), 0, -1))
        return next((len(tail) for tail in tails if any(stop.startswith(tail) for stop in self._stops)), 0)
