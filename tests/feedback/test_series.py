"""Which agreement fits which kind of judgement, on cases small enough for a pencil, and against the peers that docs/quality.md names."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.feedback.series import Series, agreement


def series(kind, rows):
    """rows: (item, labeler, value)."""
    found = Series()
    for item, labeler, value in rows:
        found.add(kind, value, item=item, prompt=item, labeler=labeler)
    return found


def pair(step):
    """A comparison's stored value; None is a tie."""
    return {"ranks": [0, 0], "tie": True} if step is None else {"ranks": [0, 1] if step < 5 else [1, 0], "step": step}


def test_comparisons_agree_by_who_won_and_by_the_step_a_tie_being_in_the_middle():
    krippendorff = pytest.importorskip("krippendorff")
    steps = np.array([[1, 2, None, 7, 8, 4], [2, 1, 5, 8, None, 5], [1, 3, 6, None, 7, None]], dtype=object)
    rows = [(i, f"l{w}", pair(steps[w][i])) for i in range(6) for w in range(3)]
    found = agreement("comparison", series("comparison", rows), resamples=0)
    # Pairs of the six items that agree: 3, 3, 1 (the last two), 1 (the first two), 1 (first and third), none.
    assert found["raw"].value == pytest.approx(9 / 18)
    on_scale = np.where(steps == None, 4.5, steps).astype(float)      # noqa: E711
    assert found["alpha_steps"].value == pytest.approx(krippendorff.alpha(on_scale, level_of_measurement="ordinal"), abs=1e-12)
    assert set(found) == {"raw", "alpha_nominal", "alpha_steps", "fleiss"}


def test_two_labelers_have_cohens_kappa_and_ratings_the_weighted_one():
    first, second = (1, 2, 3, 3, 2, 1), (1, 3, 3, 2, 2, 2)
    rows = [(i, name, {"rating": said[i]}) for name, said in (("a", first), ("b", second)) for i in range(6)]
    found = agreement("rating", series("rating", rows), resamples=0)
    # feedback-facts 4.8: quadratic kappa_w of these two is .5714.
    assert found["kappa_weighted"].value == pytest.approx(4 / 7) and "fleiss" not in found


def test_fleiss_stands_only_where_all_items_have_equally_many_labels():
    rows = [(i, f"l{w}", {"label": said == "A"}) for i, item in enumerate(("AAA", "AAB", "BBB", "ABB")) for w, said in enumerate(item)]
    # Six of each; observed disagreement 1/3, expected 1/2 with replacement. feedback-facts 4.8 has alpha .3889 on these.
    found = agreement("label", series("label", rows), resamples=0)
    assert found["fleiss"].value == pytest.approx(1 / 3) and found["alpha_nominal"].value == pytest.approx(0.3889, abs=5e-5)
    assert "fleiss" not in agreement("label", series("label", rows[:-1]), resamples=0)


def test_rankings_agree_by_tau_b_and_texts_by_nothing():
    rows = [(1, "a", {"ranks": [0, 1, 2, 3]}), (1, "b", {"ranks": [0, 2, 1, 3]}), (2, "a", {"ranks": [1, 0, 0, 2]})]
    assert agreement("ranking", series("ranking", rows), resamples=0)["tau_b"].value == pytest.approx(2 / 3)   # feedback-facts 4.8
    assert series("demonstration", [(1, "a", {"text": "so"})]).values == []
