"""A stranger's attack on the gold preference: greedy random edits, keeping whatever scores at least as much."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tutelage.demo.grammar import split_sentences


def climb(score: Callable[[str], float], start: str, vocabulary: Sequence[str], edits: int, seed: int) -> tuple[str, float]:
    """(best text, its score) after `edits` edits: a word inserted, deleted, replaced or swapped, a sentence moved, doubled or dropped."""
    rng = np.random.default_rng(seed)
    text, best = start, score(start)
    for _ in range(edits):
        candidate = _edit(rng, text, vocabulary)
        value = score(candidate)
        if value >= best:
            text, best = candidate, value
    return text, best


def _edit(rng: np.random.Generator, text: str, vocabulary: Sequence[str]) -> str:
    kind = int(rng.integers(8))
    words = text.split()
    if kind < 5 or not words:
        i = int(rng.integers(len(words) + 1))
        word = vocabulary[int(rng.integers(len(vocabulary)))]
        if kind == 0 or not words:
            words.insert(i, word)
        elif kind == 1:
            del words[min(i, len(words) - 1)]
        elif kind in (2, 3):
            words[min(i, len(words) - 1)] = word
        else:
            j = int(rng.integers(len(words)))
            i = min(i, len(words) - 1)
            words[i], words[j] = words[j], words[i]
        return " ".join(words)
    sentences = split_sentences(text)
    i, j = (int(x) for x in rng.integers(len(sentences), size=2))
    if kind == 5:
        sentences[i], sentences[j] = sentences[j], sentences[i]
    elif kind == 6:
        sentences.insert(j, sentences[i])
    else:
        del sentences[i]
    return " ".join(sentences)
