"""Cross-validation: every pair is judged by a model that never saw its prompt, in any stage; the numbers are the stages' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.small import ANIMALS, config, write_rows
from tutelage.base.errors import ConfigError, DataError
from tutelage.cli.main import main
from tutelage.evals.folds import Pairs
from tutelage.recipes.cross_validate import CrossValidationConfig, Dealt, cross_validate, held_out_margins, table


def settings(small, root: Path, **over) -> CrossValidationConfig:
    rng, rows = np.random.default_rng(0), []
    for i in range(60):
        short, long = (" ".join(rng.choice(ANIMALS, n)) for n in (2, 6))
        first, second = (long, short) if i % 2 else (short, long)
        rows.append({"prompt": f"where is {ANIMALS[i % 7]}?", "response_a": first, "response_b": second, "winner": "a" if i % 2 else "b",
                     "votes": ["a", "a", "b", "tie"] if i % 2 else ["b", "b", "b", "a"]})
    rows.insert(7, rows[0] | {"winner": "tie"})                      # not judged, but learnt from
    write_rows(root / "pairs.jsonl", rows)
    texts = write_rows(root / "texts.jsonl", [{"prompt": f"where is {ANIMALS[i % 7]}?", "completion": "in the barn"} for i in range(40)])
    few = {"epochs": None, "max_steps": 2, "batch_size": 4}
    before = {"start": {"verb": "sft", "config": {
        "model": {"policy": str(small.base)}, "train": few, "data": {"files": [str(small.demonstrations)], "eval_frac": 0.1}}}}
    stages = {
        "sft": {"verb": "sft", "config": {
            "model": {"policy": "${run}/start"}, "train": few, "data": {"files": [str(texts)], "held_out": "${held_out}"}}},
        "soft": {"verb": "reward", "config": {
            "model": {"policy": "${fold}/sft"}, "data": "${judgements}", "optim": {"learning_rate": 3e-3},
            "train": {"epochs": 3, "batch_size": 2, "batch_by": "prompt"}}},
        "majority": {"verb": "reward", "like": "soft", "config": {"algo": {"soft_targets": False}}}}
    return config(CrossValidationConfig, root / "cv", {
        "data": {"root": str(root)}, "judgements": {"files": ["${data}/pairs.jsonl"]}, "folds": 3, "members": 2,
        "score": ["soft", "majority"], "before": before, "stages": stages}, over)


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    cfg = settings(small, tmp_path_factory.mktemp("cv"))
    return cross_validate(cfg), cfg


def test_every_pair_is_judged_once_by_models_that_never_saw_its_prompt(done):
    result, cfg = done
    assert result["pairs"] == 60 and result["groups"] == 7
    rows = [json.loads(line) for line in (cfg.run_dir.parent / "pairs.jsonl").read_text().splitlines()]
    judged = []
    for fold in range(3):
        held = (cfg.run_dir / f"fold-{fold}" / "held_out.txt").read_text().splitlines()
        for stage in ("soft", "soft-1", "majority", "majority-1"):
            scored = [json.loads(line)["row"] for line in (cfg.run_dir / f"fold-{fold}" / stage / "scores.jsonl").read_text().splitlines()]
            assert {rows[i]["prompt"] for i in scored} == set(held)
        judged += scored
        for stage in ("soft", "sft"):                                # what was trained on, as the run itself shows it
            marked = (cfg.run_dir / f"fold-{fold}" / stage / "masks.txt").read_text()
            assert "where is" in marked and not any(prompt in marked for prompt in held)
    assert sorted(judged) == list(range(61))


def test_the_numbers_follow_from_the_scores_of_the_folds(done):
    result, cfg = done
    rows = [json.loads(line) for line in (cfg.run_dir.parent / "pairs.jsonl").read_text().splitlines()]
    margins = np.zeros((2, 61))
    for member, name in enumerate(("soft", "soft-1")):
        for fold in range(3):
            run = cfg.run_dir / f"fold-{fold}" / name
            scale = json.loads((run / "result.json").read_text())["bt_scale"]
            for line in map(json.loads, (run / "scores.jsonl").read_text().splitlines()):
                a, b = line["scores"]
                margins[member, line["row"]] = scale * (a - b if rows[line["row"]]["winner"] == "a" else b - a)
    decided = [i for i, row in enumerate(rows) if row["winner"] != "tie"]
    report = json.loads((cfg.run_dir / "report.json").read_text())
    assert result["models"]["soft"]["accuracy"]["mean"] == pytest.approx((margins.mean(0)[decided] > 0).mean())
    assert report["models"]["soft"]["member_accuracy"] == pytest.approx([(m[decided] > 0).mean() for m in margins])
    assert len({tuple(m) for m in margins}) == 2                     # members differ
    assert result["guesses"]["length"]["accuracy"]["mean"] == 1.0 and result["models"]["soft"]["accuracy"]["mean"] > 0.8


def test_a_finished_cross_validation_returns_its_result(done):
    result, cfg = done
    assert cross_validate(cfg.model_copy(update={"resume": True})) == result


def test_what_is_wrong_is_said_before_anything_runs(small, tmp_path):
    for over, error, says in (
            ({"score": ["sft"]}, ConfigError, "'sft' is not a reward stage"), ({"folds": 8}, DataError, "7 distinct prompts"),
            ({"stages": {"soft": {"verb": "reward", "config": {"data": "${judgment}"}}}}, ConfigError, "judgment")):
        root = tmp_path / says[:3].strip("'$")
        root.mkdir()
        with pytest.raises(error, match=says.replace("$", "\\$")):
            cross_validate(settings(small, root, **over))
        assert not (root / "cv").exists()


def test_the_flag_of_evaluate_takes_the_config_of_folds(small, tmp_path, capsys):
    from tutelage.base.config import dump_config

    (tmp_path / "cv.yaml").write_text(dump_config(settings(small, tmp_path)))
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "cv.yaml")])
    assert stop.value.code == 2 and f"tutelage evaluate --cv {tmp_path / 'cv.yaml'}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--cv", str(tmp_path / "cv.yaml"), "--dry-run", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0 and shown["data"]["pairs"] == 60
    assert sorted(fold["prompts"] for fold in shown["data"]["folds"]) == [2, 2, 3]
    assert shown["data"]["before"].keys() == {"start"}
    assert shown["data"]["stages"].keys() == {"sft", "soft", "soft-1", "majority", "majority-1"}


def test_the_table_says_what_the_report_says():
    estimate = {"mean": 0.78912, "low": 0.77, "high": 0.801, "n": 14}
    judge = {"accuracy": estimate, "near": estimate | {"mean": None}}
    report = {"pairs": 90, "near_pairs": 9, "models": {"soft": judge}, "guesses": {"length": judge},
              "leads": {"soft": {"length": {"all": {"mean": 0.012, "low": -0.003, "high": 0.03}, "near": estimate | {"low": None}}}}}
    assert [line.split("  ") for line in table(report)][1][0] == "soft"
    assert table(report)[1].split(maxsplit=1)[1] == "78.9 [77.0, 80.1]       none"
    assert table(report)[-1].split("length")[1].split() == ["+1.2", "[-0.3,", "+3.0]", "+78.9", "[?,", "+80.1]"]


def test_a_pair_that_a_fold_left_out_ends_the_run_and_the_preferred_answer_may_come_second(tmp_path):
    (tmp_path / "result.json").write_text('{"bt_scale": 2.0}')
    (tmp_path / "scores.jsonl").write_text('{"row": 4, "scores": [1.5, 1.0]}\n{"row": 0, "scores": [0.0, 3.0]}\n')
    pairs = Pairs(["a"] * 3, ["b"] * 3, ["x", "x", "y"], np.array([0, 0, 1]), np.full(3, np.nan))
    dealt = Dealt(pairs, rows=[0, 4, 5], winner=[1, 0, 0])
    assert held_out_margins(tmp_path, dealt, [0, 1]).tolist() == [6.0, 1.0]
    with pytest.raises(DataError, match="left out 1 of its 3 held-out pairs"):
        held_out_margins(tmp_path, dealt, [0, 1, 2])
