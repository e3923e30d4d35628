"""Instruction mixes through sft: what is trained, what is never trained, and what is measured."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tests.small import same_weights, sft_config, write_rows
from tutelage.base.errors import ConfigError
from tutelage.recipes.sft import build, train_sft
from tutelage.recipes.sft_mix import Trial, measure, rows_per_epoch
from tutelage.text.chat import Encoded

TEMPLATES = [{"prompt": "is {n} odd?", "response": "{odd}"}, {"prompt": "{n} is odd, or not?", "response": "{odd}"}]


@pytest.fixture
def odd(tmp_path):
    """A source in nobody's layout, and its templates."""
    file = write_rows(tmp_path / "odd.jsonl", [{"n": i, "odd": i % 2 == 1} for i in range(20)])
    return {"files": [str(file)], "templates": TEMPLATES, "words": {"odd": {"true": "in the barn", "false": "in the yard"}}}


def mix(small, run_dir, *sources, cap=None, **more):
    config = sft_config(small, run_dir, {"train": {"max_steps": 3, "batch_size": 4}, "eval": {"every_steps": 3}} | more)
    values = config.model_dump(mode="json") | {"data": {"sources": list(sources), "cap": cap, "eval_frac": 0.1}}
    return type(config).model_validate(values)


def test_a_held_out_task_is_measured_and_leaves_no_trace_in_the_weights(small, tmp_path, odd):
    talk = {"files": [str(small.demonstrations)], "task": "talk"}
    with_it = train_sft(mix(small, tmp_path / "with", talk, odd | {"task": "odd", "held_out": True}))
    without = train_sft(mix(small, tmp_path / "without", talk))
    plain = train_sft(sft_config(small, tmp_path / "plain", {"data": {"eval_frac": 0.1}, "train": {"max_steps": 3, "batch_size": 4},
                                                             "eval": {"every_steps": 3}}))
    assert same_weights(with_it["model"], without["model"]) and same_weights(plain["model"], without["model"])
    assert "tasks" not in without and list(with_it["tasks"]) == ["odd"]
    before, after = with_it["tasks"]["odd"]["before"], with_it["tasks"]["odd"]["after"]
    assert before["rows"] == after["rows"] == 20 and before["loss"] != after["loss"] and 0 <= after["accuracy"] <= 1
    assert json.loads((tmp_path / "with" / "result.json").read_text())["tasks"] == with_it["tasks"]


class Uniform(torch.nn.Module):
    """Every token is as likely as every other, but token 7 is three times as likely as each of the rest."""

    def forward(self, input_ids, attention_mask=None, **_):
        logits = torch.zeros(*input_ids.shape, 10)
        logits[..., 7] = math.log(3)
        return type("Out", (), {"logits": logits})()


def test_measured_are_the_nats_of_the_right_answer_and_how_often_it_is_the_likeliest():
    # P(7) = 3 / 12, every other 1 / 12. Row one: right answer [7, 7] against [2, 3]; row two: right [4] against [7].
    def encoded(*answer: int) -> Encoded:
        return Encoded([1, 5, *answer], [False, False, *(True for _ in answer)])

    rows = [Trial([encoded(2, 3), encoded(7, 7)], 1), Trial([encoded(4), encoded(7)], 0)]
    found = measure(Uniform(), 0, {"t": rows}, batch_size=3, device="cpu")["t"]
    assert found["accuracy"] == 0.5 and found["rows"] == 2
    assert found["loss"] == pytest.approx((2 * math.log(4) + math.log(12)) / 3, abs=1e-6)


def test_a_capped_task_gives_an_epoch_no_more_than_the_cap(small, tmp_path, odd):
    cfg = mix(small, tmp_path / "run", {"files": [str(small.demonstrations)], "task": "talk"}, odd | {"task": "odd"}, cap=30)
    parts = build(cfg, None)
    assert sum(parts.sizes) == len(parts.train) and parts.sizes[0] > 30 > parts.sizes[1]
    assert rows_per_epoch(parts.sizes, 30) == 30 + parts.sizes[1]
    assert train_sft(cfg)["steps"] == 3


def test_what_is_measured_of_a_sorted_file_is_drawn_from_all_of_it(small, tmp_path, odd):
    file = write_rows(tmp_path / "sorted.jsonl", [{"n": i, "odd": i >= 200} for i in range(400)])
    talk = {"files": [str(small.demonstrations)], "task": "talk"}
    cfg = mix(small, tmp_path / "run", talk, odd | {"files": [str(file)], "task": "odd", "held_out": True},
              eval={"every_steps": 3, "max_rows": 100})
    rows = build(cfg, None).unseen["odd"]
    right = sum(row.right for row in rows)                           # 50 of the 100 are expected, with a standard deviation below 5
    assert len(rows) == 100 and abs(right - 50) < 20
    assert rows == build(cfg, None).unseen["odd"]


@pytest.mark.parametrize(("change", "said"), [
    ({"task": None}, "cap, templates and held_out are for tasks"), ({"task": "talk", "held_out": True}, "the task talk is held out in one"),
    ({"task": "odd", "templates": [{"prompt": "", "response": "x"}]}, "at least 1 character"),
    ({"task": "odd", "templates": [{"prompt": "{n", "response": "x"}]}, "has a brace that is not around a field's name"),
    ({"task": "odd", "templates": []}, "words are for templates"),
    ({"task": "odd", "words": {"od": {"true": "yes"}}}, r"words\.od: no template has this field \(did you mean odd\?\)"),
    ({"task": "odd", "layout": "messages"}, "layout is for files in a known layout, and templates are for those in none")])
def test_a_mix_that_contradicts_itself_is_refused(small, tmp_path, odd, change, said):
    talk = {"files": [str(small.demonstrations)], "task": None if change["task"] is None else "talk"}
    with pytest.raises((ConfigError, ValueError), match=said):
        mix(small, tmp_path / "run", talk, odd | change)
