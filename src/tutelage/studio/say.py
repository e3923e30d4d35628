"""Judgements in words, as whoever gave them saw the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.web.words import Words

_SHOWN_CHARS = 300


def in_words(words: Words, language: str, kind: str, value: Mapping[str, Any] | None, sides: Sequence[int]) -> str:
    """What a stored value (or a task's expected one) says, with the letters the answers had on that page; empty when it was erased."""
    if not value or (kind in ("comparison", "ranking") and "ranks" not in value):
        return ""
    if kind == "comparison":
        return _comparison(words, language, value, sides)
    if kind == "ranking":
        return order([value["ranks"][side] for side in sides])
    if kind == "label":
        return words.say(language, "yes" if value["label"] else "no") if "label" in value else str(value.get("verdict", ""))
    if kind == "rating" and "rating" in value:
        flags = "; ".join(words.say(language, f"flag_{name}") for name in value.get("flags", []))
        return words.say(language, "rating_of", step=value["rating"]) + (f" ({flags})" if flags else "")
    if kind == "conversation" and "rating" in value:
        said = words.say(language, "talk_rating_of", step=value["rating"])
        return f"{said}: {value['comment']}" if value.get("comment") else said
    text = str(value.get("text") or value.get("critique") or value.get("edit") or "")
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + " …"


def _comparison(words: Words, language: str, value: Mapping[str, Any], sides: Sequence[int]) -> str:
    ranks = [value["ranks"][side] for side in sides]
    said = [words.say(language, "both_bad")] if value.get("both_bad") else []
    if ranks[0] == ranks[1]:
        if value.get("tie") or not said:
            said.insert(0, words.say(language, "tie"))
    else:
        letter = "A" if ranks[0] < ranks[1] else "B"
        strength = value.get("strength")
        said.insert(0, words.say(language, "better_by", letter=letter, word=words.say(language, f"strength_{int(strength)}")) if strength
                    else words.say(language, "better", letter=letter))
    return "; ".join(said)


def order(ranks: Sequence[int]) -> str:
    """B > A = C: letters by rank, best first."""
    groups = ([chr(ord("A") + at) for at, rank in enumerate(ranks) if rank == level] for level in sorted(set(ranks)))
    return " > ".join(" = ".join(group) for group in groups)
