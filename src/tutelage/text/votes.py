"""Which of two answers won, and by how many votes: the words people's files use for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIRST = frozenset({"a", "a1", "model_a", "response_a", "first", "left", "1"})
_SECOND = frozenset({"b", "a2", "model_b", "response_b", "second", "right", "2"})
_BOTH_BAD = frozenset({"tie (bothbad)", "bothbad", "both bad", "both_bad", "neither"})
_TIE = frozenset({"tie", "equal", "both", "none", "same"}) | _BOTH_BAD


def credit_of_first(choice: Any, names: tuple[str, str] = ("a", "b")) -> float:
    """1.0 when the first answer was chosen, 0.0 when the second, 0.5 on a tie.

    names: of the two answers' own columns, which name them too. 0 is no choice: it means a tie to some and the first answer to others.
    Raises: ValueError on any other word.
    """
    word = str(choice).casefold().strip()
    own = tuple(name.casefold() for name in names)
    if word in own:
        return 1.0 - own.index(word)
    for words, credit in ((_FIRST, 1.0), (_SECOND, 0.0), (_TIE, 0.5)):
        if word in words:
            return credit
    raise ValueError(f"{choice!r} names neither of two answers ({names[0]} and {names[1]}, 1 and 2, or tie)")


def is_both_bad(choice: Any) -> bool:
    """Whether a tie says that neither answer was any good."""
    return str(choice).casefold().strip() in _BOTH_BAD


def vote_share(votes: Any, names: tuple[str, str] = ("a", "b")) -> float:
    """Share of the votes that the first answer got, a tie counting half. A vote is a word, or an object that holds it as `vote`.

    Raises: ValueError when there are none, or one is no vote.
    """
    if not isinstance(votes, list) or not votes:
        raise ValueError("votes is not a list of votes")
    return sum(credit_of_first(vote.get("vote") if isinstance(vote, Mapping) else vote, names) for vote in votes) / len(votes)
