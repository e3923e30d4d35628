"""Pairs made from conversations alone: the better side is what was written there, the other one was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.base.errors import DataError
from tutelage.recipes.contrast import ContrastConfig, make_contrasts
from tutelage.text.readers import read_judgements

TALKS = [[("user", f"a {drink} please"), ("assistant", f"look {drink}"), ("tool", "found"), ("assistant", f"here is your {drink}")]
         for drink in ("mocha", "latte", "cortado", "tea")]


def write(path: Path, talks) -> str:
    rows = [{"messages": [{"role": role, "content": content} for role, content in talk]} for talk in talks]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def made(tmp_path, talks, **options):
    cfg = ContrastConfig.model_validate({"run_dir": tmp_path / "run", "data": {"files": [write(tmp_path / "d.jsonl", talks)]}, **options})
    result = make_contrasts(cfg)
    return read_judgements(result["file"]).rows


def test_the_chosen_turn_is_the_one_that_was_written_and_the_other_says_something_else(tmp_path):
    rows = made(tmp_path, TALKS)
    assert len(rows) == 8                                            # two assistant turns in each of four conversations
    written = {tuple(m for m in talk[:j]): talk[j][1] for talk in TALKS for j in (1, 3)}
    for row in rows:
        chosen, other = (r.text for r in row.responses)
        assert row.ranks == (0, 1) and written[tuple((m.role, m.content) for m in row.prompt)] == chosen != other
        assert any((("assistant", other)) in talk for talk in TALKS)


def test_both_kinds_of_contrast_occur_the_same_act_elsewhere_and_another_turn_from_here(tmp_path):
    kinds = set()
    for row in made(tmp_path, TALKS):
        drink = row.prompt[0].content.split()[1]
        chosen, other = (r.text.split() for r in row.responses)
        kinds.add("here" if drink in other else "elsewhere")
        assert drink in other or chosen[0] == other[0]
    assert kinds == {"here", "elsewhere"}


def test_long_contexts_are_left_out_and_nothing_to_contrast_is_an_error(tmp_path):
    assert {len(row.prompt) for row in made(tmp_path, TALKS, max_chars=20)} == {1}
    with pytest.raises(DataError, match="no assistant turn to contrast"):
        made(tmp_path / "..", [TALKS[0][:2]], run_dir=tmp_path / "other")
