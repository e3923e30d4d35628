"""Token ids to text while they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TextStream:
    """Token ids to text as they come. Bytes of a character that is not whole yet are held back."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._tokens: list[int] = []                                # from the start of the last piece: some tokenizers join over a seam
        self._shown = 0                                             # how many of them have been handed out

    def push(self, token: int) -> str:
        """The text that became whole with this token, maybe none."""
        self._tokens.append(token)
        piece = self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]
        if not piece or piece.endswith("\ufffd"):                   # half a character decodes to a replacement mark
            return ""
        self._tokens, self._shown = self._tokens[self._shown :], len(self._tokens) - self._shown
        return piece

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character show as replacement marks."""
        rest = self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]
        self._tokens, self._shown = [], 0
        return rest

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))
