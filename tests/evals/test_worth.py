"""What labels are worth, on labels whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evals.worth import labels_worth

WORDS = [f"w{i}" for i in range(40)]


def rows(rng: np.random.Generator, n: int, liars: tuple[str, ...] = ()) -> list[dict]:
    """Of two answers of ten words the one with more words from the first half of the list is better; a liar says the opposite."""
    found = []
    while len(found) < n:
        one, other = (rng.choice(40, 10) for _ in range(2))
        if (one < 20).sum() == (other < 20).sum():
            continue
        labeler = ("amara", "bo", "falk")[len(found) % 3]
        first = ((one < 20).sum() > (other < 20).sum()) != (labeler in liars)
        better, worse = (one, other) if first else (other, one)
        found.append({"chosen": " ".join(WORDS[i] for i in better), "rejected": " ".join(WORDS[i] for i in worse), "weight": 1.0,
                      "prompt": len(found), "judgement": len(found), "labeler": labeler})
    return found


def test_more_labels_help_and_without_the_liar_it_is_better_but_not_without_an_honest_labeler():
    rng = np.random.default_rng(0)
    found = labels_worth(rows(rng, 480, liars=("falk",)), rows(rng, 400))
    assert [point["judgements"] for point in found["curve"]] == [30, 60, 120, 240, 480]
    assert found["curve"][-1]["accuracy"]["mean"] > found["curve"][0]["accuracy"]["mean"] + 0.05
    change = {name: own["change"] for name, own in found["without"].items()}
    assert change["falk"]["low"] > 0 > change["amara"]["high"] and found["without"]["bo"]["judgements"] == 160


def test_subsets_are_nested_and_a_lone_labeler_cannot_be_left_out(monkeypatch):
    from tutelage.evals import worth

    seen: list[set[str]] = []
    fit = worth.fit_pairs
    monkeypatch.setattr(worth, "fit_pairs", lambda chosen, *a, **k: seen.append(set(chosen)) or fit(chosen, *a, **k))
    data = [row | {"labeler": "amara"} for row in rows(np.random.default_rng(1), 64)]
    found = labels_worth(data, data[:8])
    assert [len(part) for part in seen[:5]] == [4, 8, 16, 32, 64] and all(a < b for a, b in zip(seen[:4], seen[1:5], strict=True))
    assert found["without"] == {"amara": {"judgements": 64, "change": None}}
    assert found["curve"][-1]["accuracy"]["mean"] == pytest.approx(1.0)
    assert labels_worth([], data) is None and labels_worth(data, []) is None
