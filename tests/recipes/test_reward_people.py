"""Reward models from people: each one's scale, ties, strength, weights, and who is held out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from sqlalchemy import create_engine

from tests.feedback import few
from tests.recipes.test_reward_model import item, parts_of
from tests.small import ANIMALS, Small, reward_config, same_weights, write_rows
from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Judgement, Response
from tutelage.feedback import schema
from tutelage.feedback.snapshot import freeze
from tutelage.recipes import reward_model as recipe
from tutelage.recipes import reward_model_setup
from tutelage.recipes.reward_model import Item, train_reward_model
from tutelage.recipes.reward_model_disagreements import against, disagreements
from tutelage.recipes.reward_model_loss import loss_of
from tutelage.recipes.reward_model_report import rating_report, verdicts, write_people_report
from tutelage.recipes.reward_model_scales import Scales
from tutelage.train.run import Interrupted, Run

PROMPT = [{"role": "user", "content": "where is cat?"}]


def rated(rng: np.random.Generator, n: int, shift: dict[str, float]) -> list[dict]:
    """Longer answers are better; a labeler's steps lie at 2, 4 and 6 words plus their shift."""
    rows = []
    for i in range(n):
        name, words = sorted(shift)[i % len(shift)], int(rng.integers(1, 9))
        rating = 1 + int(np.searchsorted(np.array([2.0, 4.0, 6.0]) + shift[name], words + rng.logistic(scale=0.3)))
        rows.append({"prompt": [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}], "kind": "rating", "rating": rating,
                     "responses": [{"text": "in the " + " ".join(rng.choice(ANIMALS, words))}], "labeler": name})
    return rows


def people_config(small: Small, run_dir: Path, rows: list[dict], *over: dict):
    file = write_rows(run_dir.parent / f"{run_dir.name}.jsonl", rows)
    return reward_config(small, run_dir, {"data": {"files": [str(file)]}, "save": {"every_steps": None}}, *over)


def test_each_labelers_ratings_have_the_likelihood_of_their_own_thresholds_and_a_prior_that_micro_batches_share(small, tmp_path):
    parts, cfg = parts_of(small, tmp_path, {"data": {"files": [str(write_rows(tmp_path / "r.jsonl", rated(
        np.random.default_rng(0), 60, {"kind": -2.0, "stern": 1.0})))]}, "people": {"threshold_spread": 0.5}})
    scales = parts.scales
    with torch.no_grad():
        scales.own.copy_(torch.tensor([[-0.5, 0.1, 0.0], [0.7, 0.0, -0.2]]))
    one = item(parts, ["in the barn"], rating=3.0, kind="rating", labeler="stern")
    score = recipe.all_scores(parts, [one], cfg)[0][0]
    raw = scales.shared.detach().double().numpy() + np.array([0.7, 0.0, -0.2])
    edges = raw[0] + np.concatenate([[0], np.cumsum(np.exp(raw[1:]))])
    prior = (0.25 + 0.01 + 0.49 + 0.04) / (2 * 0.25) / len(parts.train)
    expected = -np.log(expit(edges[2] - score) - expit(edges[1] - score)) + prior
    assert loss_of(parts, [one], 1, cfg)[0].item() == pytest.approx(expected, abs=1e-5)
    items = parts.train[:9]
    whole = loss_of(parts, items, 9, cfg)[0].item()
    assert sum(loss_of(parts, items[i:i + 2], 9, cfg)[0].item() for i in range(0, 9, 2)) == pytest.approx(whole, abs=1e-5)


def test_a_lenient_and_a_stern_labeler_get_thresholds_of_their_own_unless_they_are_pooled(small, tmp_path):
    rows = rated(np.random.default_rng(1), 480, {"kind": -2.0, "stern": 2.0})
    gaps, accuracy = {}, {}
    for spread in (2.0, 0.001):
        cfg = people_config(small, tmp_path / f"{spread}", rows, {
            "train": {"epochs": 3.0, "max_steps": None, "batch_size": 16}, "optim": {"learning_rate": 3e-3},
            "people": {"threshold_spread": spread, "learning_rate": 0.05}})
        result = train_reward_model(cfg)
        told = json.loads((Path(result["model"]) / "people.json").read_text())
        thresholds = {name: np.array(row) for name, row in told["thresholds"].items()}
        assert told["rating_levels"] == [1, 2, 3, 4] and all((np.diff(row) > 0).all() for row in thresholds.values())
        gaps[spread] = (thresholds["stern"] - thresholds["kind"])[1]
        report = json.loads(Path(result["report"]).read_text())
        accuracy[spread] = report["ratings"]["concordance"]["mean"]
        assert report["ratings"]["log_loss"]["mean"] < report["ratings"]["log_loss_of_shares"]["mean"]
    assert gaps[2.0] > 0.5 and abs(gaps[0.001]) < 0.05               # in standard deviations of the score
    assert accuracy[2.0] > 0.9


def test_before_training_the_shared_thresholds_and_nu_foretell_the_shares_that_were_said():
    rows = [item_row(kind="rating", rating=r) for r, n in ((1, 5), (4, 15), (5, 20)) for _ in range(n)]
    ranked = [item_row(kind="comparison", ranks=(0, int(i % 4 > 0))) for i in range(40)]                # one in four is a tie
    scales = Scales(rows + ranked, ties=True)
    assert scales.levels == (1.0, 4.0, 5.0)
    assert torch.sigmoid(scales.thresholds([None]))[0].tolist() == pytest.approx([5 / 40, 20 / 40])
    nu = scales.log_nu.exp().item()
    assert nu / (nu + 2) == pytest.approx(0.25)


def item_row(**said) -> Judgement:
    answers = tuple(Response(t) for t in "ab"[: 1 if said["kind"] == "rating" else 2])
    return Judgement("p", answers, **said)


def test_a_verdict_is_read_on_each_labelers_own_scale_in_the_units_of_the_loss(small, tmp_path):
    parts, cfg = parts_of(small, tmp_path)
    levels = [item_row(kind="rating", rating=float(r), labeler=name) for name in ("kind", "stern") for r in range(1, 6)]
    scales = parts.scales = Scales(levels)
    with torch.no_grad():
        scales.shared.copy_(torch.tensor([-1.5, 0.0, 0.0, 0.0]))     # thresholds -1.5, -0.5, 0.5, 1.5: the middle step is around 0
        scales.own[scales.labelers["stern"], 0] = 2.0
    scales.rescale_(0.5, 3.0)                                        # a score of 3 is log-odds 0, one of 4 is 2
    said = [(item(parts, ["a"], kind="rating", rating=5.0, labeler="kind"), 3.2, 1.0),
            (item(parts, ["a"], kind="rating", rating=5.0, labeler="stern"), 3.2, 0.0),                 # 0.4 lies below their middle of 2
            (item(parts, ["a"], kind="rating", rating=2.0, labeler="stern"), 3.9, 1.0),
            (item(parts, ["a"], kind="rating", rating=2.0, labeler="unknown"), 2.9, 1.0),               # by the shared scale
            (item(parts, ["a"], kind="rating", rating=3.0, labeler="kind"), 9.0, None),                 # the middle has no side
            (item(parts, ["a"], kind="label", label=True), 2.9, 0.0), (item(parts, ["a"], kind="label", label=False), 2.9, 1.0)]
    parts = replace(parts, held_out=[one for one, _, _ in said])
    found = [row["right"] for row in verdicts(parts, cfg, [[score] for _, score, _ in said])]
    assert found == [right for _, _, right in said if right is not None]
    pair = item(parts, ["a", "b", "c"], kind="ranking", ranks=(0, 1, 1))
    assert [row["right"] for row in verdicts(replace(parts, held_out=[pair]), cfg, [[2.0, 1.0, 2.0]])] == [1.0, 0.5]
    rating = rating_report(replace(parts, held_out=[said[1][0]], train=[Item([], j) for j in levels]), cfg, [[3.2]])
    assert rating["log_loss"]["mean"] == pytest.approx(-np.log(1 - expit(3.5 - 0.4)), rel=1e-5)
    assert rating["log_loss_of_shares"]["mean"] == pytest.approx(np.log(5))


def test_a_killed_run_goes_on_with_the_scales_it_had_bit_for_bit(small, tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    rows = rated(rng, 60, {"kind": -1.0, "stern": 1.0})
    rows += [{"prompt": f"where {i}?", "responses": [{"text": "in the barn"}, {"text": "a cat"}], "kind": "comparison",
              "ranks": [0, int(i % 3 > 0)]} for i in range(60)]
    more = {"algo": {"ties": "davidson"}, "train": {"max_steps": 6}, "save": {"every_steps": 2}}
    whole = train_reward_model(people_config(small, tmp_path / "whole", rows, more))
    cfg = people_config(small, tmp_path / "cut", rows, more)
    with monkeypatch.context() as patched:
        step = recipe.train_step
        calls: list[int] = []
        patched.setattr(recipe, "train_step", lambda *a: calls.append(1) or (_ for _ in ()).throw(KeyboardInterrupt) if len(calls) == 3
                        else calls.append(1) or step(*a))
        with pytest.raises(Interrupted):
            train_reward_model(cfg)
    again = train_reward_model(cfg.model_copy(update={"resume": True}))
    assert same_weights(tmp_path / "whole" / "ckpt" / "step-000006", tmp_path / "cut" / "ckpt" / "step-000006")
    texts = [(Path(r["model"]) / "people.json").read_text() for r in (whole, again)]
    assert texts[0] == texts[1] and json.loads(texts[0])["tie_nu"] > 0


def test_davidsons_nu_moves_towards_the_share_of_ties(small, tmp_path):
    pair = {"responses": [{"text": "in the barn"}, {"text": "in the pond"}], "kind": "comparison"}
    rows = [{"prompt": f"where {i}?", **pair, "ranks": [0, 0]} for i in range(90)]
    rows += [{"prompt": f"who {i}?", **pair, "ranks": [i % 2, 1 - i % 2]} for i in range(30)]
    cfg = people_config(small, tmp_path / "run", rows, {"algo": {"ties": "davidson"}, "people": {"learning_rate": 0.1},
                                                        "train": {"max_steps": 30, "batch_size": 32}, "data": {"eval_frac": 0.0}})
    with Run.open(cfg, "reward") as run:
        parts = recipe.build(cfg, run)
    with torch.no_grad():
        parts.scales.log_nu.fill_(0.0)
    optimizer = recipe.optimizer_of(parts, cfg)
    for i in range(60):
        recipe.train_step(parts, optimizer, recipe.items_of_step(i, [[it] for it in parts.train], cfg), cfg, None)
    nu = parts.scales.log_nu.exp().item()
    assert nu / (nu + 2) == pytest.approx(0.75, abs=0.06)            # the scores of such answers cannot tell them apart


def test_edits_teach_as_pairs_and_critiques_are_left_out_and_counted(small, tmp_path, caplog):
    rows = [{"prompt": PROMPT, "responses": [{"text": "a cat"}], "kind": "edit", "edit": "in the barn with a cat"},
            {"prompt": PROMPT, "responses": [{"text": "a cat"}], "kind": "critique", "critique": "where?"}]
    parts, _ = parts_of(small, tmp_path, {"data": {"files": [str(write_rows(tmp_path / "e.jsonl", rows))], "eval_frac": 0}})
    (one,) = parts.train
    assert [r.text for r in one.judgement.responses] == ["in the barn with a cat", "a cat"] and one.judgement.ranks == (0, 1)
    assert parts.left_out == 1 and "1 of 2 judgements were left out" in caplog.text


def test_ratings_that_are_all_alike_teach_nothing_and_too_many_values_are_no_scale(small, tmp_path):
    row = {"prompt": PROMPT, "responses": [{"text": "a cat"}], "kind": "rating"}
    for rating, error in ((lambda i: 3, "no usable judgement"), (lambda i: i / 7, "the ratings have 40 different values")):
        file = write_rows(tmp_path / "r.jsonl", [row | {"rating": rating(i)} for i in range(40)])
        with pytest.raises(DataError, match=error):
            parts_of(small, tmp_path, {"data": {"files": [str(file)], "eval_frac": 0}})


def test_weights_of_groups_and_of_chances_reach_training_but_not_the_held_out_side(small, tmp_path):
    rows = [{"prompt": f"where is {ANIMALS[i % 8]} {i}?", "responses": [{"text": "in the barn"}, {"text": "a cat"}], "kind": "comparison",
             "ranks": [0, 1], "group": "home" if i % 4 == 0 else "library", "p_select": 0.5 if i % 2 else 1.0} for i in range(80)]
    file = str(write_rows(tmp_path / "j.jsonl", rows))
    people = {"group_weights": {"home": 3.0}, "inverse_probability": True}
    parts, _ = parts_of(small, tmp_path, {"data": {"files": [file]}, "people": people})
    weights = {(it.judgement.group, it.judgement.p_select): it.judgement.weight for it in parts.train}
    home, odd, even = weights["home", 1.0], weights["library", 0.5], weights["library", 1.0]
    assert home / even == pytest.approx(3) and odd / even == pytest.approx(2)
    assert np.mean([it.judgement.weight for it in parts.train]) == pytest.approx(1)
    held = {(it.judgement.p_select, it.judgement.weight) for it in parts.held_out}
    assert {round(w * p, 6) for p, w in held} == {round(next(w * p for p, w in held), 6)}              # 1 / p_select alone
    with pytest.raises(ConfigError, match="no judgement is of the group 'hime'"):
        parts_of(small, tmp_path / "2", {"data": {"files": [file]}, "people": {"group_weights": {"hime": 3.0}}})


@pytest.fixture
def snapshot(tmp_path):
    """60 prompts of two users' splits, judged by two people who train and one who is held out."""
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as conn:
        people = [few.labeler(conn, name, group="home", held_out=name == "chiyo") for name in ("amara", "bo", "chiyo")]
        for i in range(60):
            asked = few.prompt(conn, [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}],
                               split="held_out" if i % 3 == 0 else "train")
            task = few.task(conn, asked, ["in the barn with a cat", "no"])
            for who in people:
                few.judgement(conn, task, who, {"ranks": [0, 1], "strength": 1 + i % 4})
        return freeze(conn, tmp_path / "snapshots")


def test_a_run_from_a_snapshot_keeps_its_split_by_user_and_its_held_out_labelers_and_names_its_hash(small, tmp_path, snapshot, caplog):
    cfg = reward_config(small, tmp_path / "run", {"data": {"files": [str(snapshot.path)]}, "save": {"every_steps": None}})
    with Run.open(cfg, "reward") as run:
        parts = recipe.build(cfg, run)
    assert {(it.judgement.extra["split"], it.judgement.labeler) for it in parts.train} == {("train", "amara"), ("train", "bo")}
    assert {(it.judgement.extra["split"], it.judgement.labeler) for it in parts.held_out} == {
        ("held_out", "amara"), ("held_out", "bo"), ("held_out", "chiyo")}
    train_reward_model(cfg)
    (entry,) = json.loads((tmp_path / "run" / "lineage.json").read_text())["parents"]["data"]
    assert entry["snapshot"] == snapshot.hash
    people = json.loads((tmp_path / "run" / "report" / "reward.json").read_text())["people"]
    assert list(people["labelers"]) == ["amara", "bo", "chiyo"] and people["held_out_labelers"]["n"] == 20


def test_disagreements_are_what_the_model_is_sure_of_the_other_way_and_those_all_people_share_come_first(small, tmp_path):
    parts, _ = parts_of(small, tmp_path)
    scales = parts.scales
    scales.rescale_(0.5, 0.0)                                        # leads of 1, 2, 3 are 2, 4, 6 in log-odds: P = .8808, .982, .9975
    pair = {"kind": "comparison"}
    said = [(item(parts, ["a", "b"], ranks=(0, 1), labeler="amara", extra={"task": 7}, **pair), [0.0, 2.0]),
            (item(parts, ["a", "b"], ranks=(1, 0), labeler="bo", extra={"task": 7}, **pair), [0.0, 2.0]),
            (item(parts, ["c", "d"], ranks=(0, 1), labeler="amara", extra={"task": 8, "judgement": 3}, **pair), [0.0, 2.0]),
            (item(parts, ["e", "f"], ranks=(0, 1), labeler="amara", extra={"task": 9}, **pair), [0.0, 1.0]),              # not sure enough
            (item(parts, ["g", "h"], ranks=(0, 0), labeler="amara", **pair), [0.0, 9.0]),                                   # a tie
            (item(parts, ["i", "j", "k"], ranks=(0, 1, 2), kind="ranking"), [1.0, 0.0, 3.0]),                               # worst pair
            (item(parts, ["l"], label=True, kind="label"), [-1.5])]
    rows = disagreements((("held_out", one, scores) for one, scores in said), scales)
    assert [(row["p"], row["task"], row["responses"]) for row in rows] == [
        (0.9975, None, ["i", "j", "k"]), (0.982, 8, ["c", "d"]), (0.9526, None, ["l"]), (0.5, 7, ["a", "b"])]
    assert rows[1]["said"] == [{"p": 0.982, "labeler": "amara", "judgement": 3, "ranks": [0, 1]}]
    assert [(one["labeler"], one["p"]) for one in rows[3]["said"]] == [("amara", 0.982), ("bo", 0.018)]
    parts.scales = Scales([item_row(kind="rating", rating=float(r), labeler="kind") for r in range(1, 6)])
    rated_low = item(parts, ["a"], kind="rating", rating=1.0, labeler="kind")
    middle = parts.scales.middle("kind")
    assert against(rated_low, [middle + 2.0], parts.scales) == pytest.approx(expit(2.0))
    assert against(item(parts, ["a"], kind="rating", rating=3.0), [9.0], parts.scales) is None


def test_a_run_on_a_snapshot_lists_disagreements_of_both_sides_with_their_tasks(small, tmp_path):
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.begin() as conn:
        amara = few.labeler(conn, "amara")
        wrong = set()
        for i in range(48):
            asked = few.prompt(conn, [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}],
                               split="held_out" if i % 4 == 0 else "train")
            task = few.task(conn, asked, ["in the barn with a cat", "no"])
            few.judgement(conn, task, amara, {"ranks": [1, 0] if i in (4, 37) else [0, 1]}, weight=float(i != 37))  # 0: not learnt
            wrong |= {task} if i in (4, 37) else set()
        snapshot = freeze(conn, tmp_path / "snapshots")
    result = train_reward_model(reward_config(small, tmp_path / "run", {
        "data": {"files": [str(snapshot.path)]}, "save": {"every_steps": None}, "optim": {"learning_rate": 3e-3},
        "train": {"max_steps": 60, "epochs": None}}))
    rows = [json.loads(line) for line in (tmp_path / "run" / "report" / "disagreements.jsonl").read_text().splitlines()]
    assert result["disagreements"] == len(rows) and {row["task"] for row in rows} == wrong
    assert {row["side"] for row in rows} == {"train", "held_out"} and rows[0]["said"][0]["labeler"] == "amara"


def test_reliability_lowers_the_weight_of_who_contradicts_the_others_and_is_told(small, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [{"prompt": f"where is {ANIMALS[i % 8]} {i}?", "responses": [{"text": "in the barn"}, {"text": "a cat"}], "kind": "comparison",
             "ranks": [1, 0] if name == "falk" else [0, 1], "labeler": name} for i in range(60) for name in ("amara", "bo", "falk")]
    over = {"data": {"files": [str(write_rows(tmp_path / "j.jsonl", rows))]}, "people": {"reliability": True},
            "eval": {"labels_worth": True}}
    parts, cfg = parts_of(small, tmp_path, over)
    weights = {(it.judgement.labeler, round(it.judgement.weight, 6)) for it in parts.train}
    assert len(weights) == 3 and ("falk", 0.0) in weights
    assert np.mean([it.judgement.weight for it in parts.train]) == pytest.approx(1)
    assert {it.judgement.weight for it in parts.held_out} == {1.0}
    assert "falk: weight 0.00 for" in caplog.text
    report = json.loads(write_people_report(tmp_path, parts, cfg, [[0.0, 0.0] for _ in parts.held_out]).read_text())
    told, worth = report["reliability"], report["labels_worth"]
    assert told["falk"]["weight"] == 0 and told["falk"]["skill"] < 0 < told["amara"]["low"]
    assert worth["curve"][-1]["judgements"] == len(parts.train)
    assert [worth["without"][name]["judgements"] for name in ("amara", "bo", "falk")] == 3 * [len(parts.train) // 3]


def test_who_says_the_opposite_can_be_heard_as_such(small, tmp_path):
    rows = [{"prompt": f"where is {ANIMALS[i % 8]} {i}?", "responses": [{"text": "in the barn"}, {"text": "a cat"}], "kind": "comparison",
             "ranks": [1, 0] if name == "falk" else [0, 1], "labeler": name} for i in range(60) for name in ("amara", "bo", "falk")]
    over = {"data": {"files": [str(write_rows(tmp_path / "j.jsonl", rows))]}, "people": {"reliability": True, "opposed": "flip"}}
    parts, _ = parts_of(small, tmp_path, over)
    assert {it.judgement.ranks for it in parts.train} == {(0, 1)} and all(it.judgement.weight > 0.5 for it in parts.train)
    assert {it.judgement.ranks for it in parts.held_out if it.judgement.labeler == "falk"} == {(1, 0)}       # measured by what they said
    with pytest.raises(ConfigError, match="told by reliability, which is off"):
        parts_of(small, tmp_path, {"people": {"opposed": "flip"}})


def test_a_labeler_can_be_held_out_by_name(small, tmp_path, snapshot):
    parts, _ = parts_of(small, tmp_path, {"data": {"files": [str(snapshot.path)]}, "people": {"held_out": ["bo"]}})
    assert {it.judgement.labeler for it in parts.train} == {"amara"} and "bo" in {it.judgement.labeler for it in parts.held_out}


def test_a_strength_is_a_margin_or_a_probability_not_both(small, tmp_path):
    with pytest.raises(ConfigError, match="two readings of one strength"):
        reward_config(small, tmp_path, {"algo": {"strength_margin": 0.1, "strength_targets": [0.6, 0.9]}})
    with pytest.raises(ConfigError, match="does not hear"):
        reward_config(small, tmp_path, {"algo": {"strength_targets": [0.6, 0.9], "soft_targets": False}})


def test_answers_that_read_alike_to_the_tokenizer_are_left_out_and_counted(small, tmp_path, monkeypatch):
    encode = reward_model_setup.encode_example
    monkeypatch.setattr(reward_model_setup, "encode_example", lambda tokenizer, prompt, text: encode(tokenizer, prompt, text.lower()))
    rows = [{"prompt": f"where is {ANIMALS[i % 8]} {i}?", "chosen": "In the barn", "rejected": "in the barn" if i % 2 else "a cat"}
            for i in range(40)]
    parts, _ = parts_of(small, tmp_path, {"data": {"files": [str(write_rows(tmp_path / "j.jsonl", rows))]}})
    assert parts.left_out == 20 and len(parts.train) + len(parts.held_out) == 20
