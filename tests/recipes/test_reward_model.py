from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.small import ANIMALS, PLACES, reward_config, write_rows
from tutelage.base.errors import AuditError, ConfigError, DataError
from tutelage.base.records import Judgement, Response, prompt_from_json
from tutelage.models.heads import ScoredModel
from tutelage.recipes import reward_model as recipe
from tutelage.recipes.reward_model import Item, train_reward_model
from tutelage.recipes.reward_model_loss import asked_margin, sides
from tutelage.text.chat import encode_example
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.optim import clip_and_step
from tutelage.train.run import Run

PROMPT = [{"role": "user", "content": "where is cat?"}]


def answer(rng: np.random.Generator, words: int) -> str:
    return "in the " + " ".join(rng.choice([*ANIMALS, *PLACES], words))


@pytest.fixture(scope="module")
def taught(small, tmp_path_factory):
    """A reward model taught, by judgements of every kind at once, that longer is better: (result, folder, file)."""
    root, rng, rows = tmp_path_factory.mktemp("taught"), np.random.default_rng(5), []
    for i in range(640):
        prompt = [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}]
        short, long = (int(n) for n in sorted(rng.choice(8, 2, replace=False)))
        pair = [{"text": answer(rng, 1 + short)}, {"text": answer(rng, 1 + long)}]
        if i % 8 == 0:
            rows.append({"prompt": prompt, "responses": [pair[1]], "kind": "label", "label": bool(long >= 5)})
        elif i % 8 == 1:
            sizes = [int(n) for n in rng.integers(1, 8, 4)]
            order = sorted(set(sizes), reverse=True)
            rows.append({"prompt": prompt, "responses": [{"text": answer(rng, n)} for n in sizes], "kind": "ranking",
                         "ranks": [order.index(n) for n in sizes]})                                    # ties where sizes meet
        elif i % 8 == 2:
            rows.append({"prompt": prompt, "responses": [{"text": answer(rng, 4)}, {"text": answer(rng, 4)}], "kind": "comparison",
                         "ranks": [0, 0]})
        elif i % 8 == 3:
            rows.append({"prompt": prompt, "responses": pair, "kind": "comparison", "ranks": [1, 0], "target": 0.1, "weight": 0.5})
        elif i % 8 == 4:
            rows.append({"prompt": prompt, "responses": pair[::-1], "kind": "comparison", "ranks": [0, 1], "strength": 3, "margin": 0.1})
        else:
            rows.append({"prompt": prompt, "responses": pair, "kind": "comparison", "ranks": [1, 0]})
    file = write_rows(root / "judgements.jsonl", rows)
    cfg = reward_config(small, root / "run", {
        "data": {"files": [str(file)]}, "train": {"epochs": 3.0, "max_steps": None, "batch_size": 16}, "optim": {"learning_rate": 3e-3},
        "algo": {"strength_margin": 0.05}, "save": {"every_steps": None}})
    return train_reward_model(cfg), cfg, file


def test_a_planted_preference_is_learnt_from_judgements_of_every_kind_at_once(taught):
    result, cfg, _ = taught
    assert result["pairs"]["accuracy"]["mean"] > 0.9 and result["pairs"]["accuracy"]["n"] > 50
    rows = [json.loads(line) for line in (cfg.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"] and rows[-1]["train/accuracy"] > 0.8
    assert result["pairs"]["baselines"]["length"] > 0.9 and result["labels"] is not None               # what was planted


def test_scores_of_training_answers_have_mean_0_and_deviation_1_after_training(taught):
    result, cfg, _ = taught
    with Run.open(cfg.model_copy(update={"resume": True}), "reward") as run:
        parts = recipe.build(cfg, run)
    scores = [s for row in recipe.all_scores(parts, parts.train[:512], cfg) for s in row]
    assert abs(np.mean(scores)) < 1e-4 and np.std(scores) == pytest.approx(1, abs=1e-4) and len(parts.train) <= 512 * 2


def test_the_saved_folder_scores_the_same_in_plain_transformers_up_to_score_shift(taught):
    result, cfg, _ = taught
    tokenizer = open_tokenizer(result["model"])
    ours = ScoredModel.open(result["model"])
    plain = AutoModelForSequenceClassification.from_pretrained(result["model"], dtype=torch.float32)
    assert plain.config.num_labels == 1 and plain.config.score_shift != 0
    for text in ("in the barn", "in the barn with cat and dog too"):
        tokens = torch.tensor([encode_example(tokenizer, prompt_from_json(PROMPT), text).tokens])
        with torch.no_grad():
            expected = plain(input_ids=tokens).logits[0, 0] + plain.config.score_shift
            assert ours.score(tokens, torch.ones_like(tokens)).item() == pytest.approx(expected.item(), abs=1e-5)


def test_score_differences_times_bt_scale_are_the_log_odds_before_normalisation(small, tmp_path):
    results = {}
    for normalize in (True, False):
        results[normalize] = train_reward_model(reward_config(small, tmp_path / str(normalize), {"algo": {"normalize": normalize}}))
    tokens = torch.tensor([[1, 4, 30, 31, 2], [1, 4, 40, 41, 2]])
    with torch.no_grad():
        gaps = {n: ScoredModel.open(r["model"]).score(tokens, torch.ones_like(tokens)).diff().item() for n, r in results.items()}
    assert results[False]["bt_scale"] == 1.0
    assert gaps[True] * results[True]["bt_scale"] == pytest.approx(gaps[False], rel=1e-4)


# -- the loss -------------------------------------------------------------------------------------------------------------


def parts_of(small, tmp_path, *over):
    cfg = reward_config(small, tmp_path / "run", *over)
    with Run.open(cfg, "reward") as run:
        return recipe.build(cfg, run), cfg


def item(parts, texts, **said) -> Item:
    prompt = prompt_from_json(PROMPT)
    judgement = Judgement(prompt, tuple(Response(t) for t in texts), said.pop("kind", "comparison"), extra=said.pop("extra", {}), **said)
    return Item([encode_example(parts.tokenizer, prompt, t) for t in texts], judgement)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_each_kind_of_judgement_has_the_loss_of_its_formula_and_they_add_up(small, tmp_path):
    parts, cfg = parts_of(small, tmp_path, {"algo": {"strength_margin": 0.2}})
    long, short, third = "in the barn with cat", "in the barn", "the pond"
    s = {t: recipe.all_scores(parts, [item(parts, [t])], cfg)[0][0] for t in (long, short, third)}
    d, tie = s[long] - s[short], s[short] - s[third]
    cases = [
        (item(parts, [long, short], ranks=(0, 1)), -log_sigmoid(d)),
        (item(parts, [short, long], ranks=(1, 0)), -log_sigmoid(d)),                                   # the order of answers says nothing
        (item(parts, [long, short], ranks=(0, 1), weight=3.0), -3 * log_sigmoid(d)),
        (item(parts, [long, short], ranks=(0, 1), strength=2.0), -log_sigmoid(d - 0.4)),               # margin 0.2 per strength
        (item(parts, [long, short], ranks=(0, 1), extra={"margin": 0.5}), -log_sigmoid(d - 0.5)),      # a margin of the row's own
        (item(parts, [long, short], ranks=(0, 1), extra={"target": 0.7}), -0.7 * log_sigmoid(d) - 0.3 * log_sigmoid(-d)),
        (item(parts, [short, long], ranks=(1, 0), extra={"target": 0.3}), -0.7 * log_sigmoid(d) - 0.3 * log_sigmoid(-d)),
        (item(parts, [long, short], ranks=(0, 0)), -0.5 * log_sigmoid(d) - 0.5 * log_sigmoid(-d)),     # a tie is a target of 1/2
        (item(parts, [long, short, third], ranks=(0, 1, 1), kind="ranking"),
         -(log_sigmoid(d) + log_sigmoid(s[long] - s[third]) + (log_sigmoid(tie) + log_sigmoid(-tie)) / 2) / 3),
        (item(parts, [long], label=True, kind="label"), -log_sigmoid(s[long])),
        (item(parts, [short], label=False, kind="label"), -log_sigmoid(-s[short])),
    ]
    for judged, expected in cases:
        assert recipe.loss_of(parts, [judged], 1, cfg)[0].item() == pytest.approx(expected, abs=1e-5)
    together = recipe.loss_of(parts, [judged for judged, _ in cases], len(cases), cfg)[0].item()
    assert together == pytest.approx(sum(expected for _, expected in cases) / len(cases), abs=1e-5)


def test_accuracy_counts_every_decided_pair_of_a_ranking(small, tmp_path):
    parts, cfg = parts_of(small, tmp_path)
    texts = ["in the barn with cat", "in the barn", "the pond", "a cat"]
    scores = recipe.all_scores(parts, [item(parts, texts)], cfg)[0]
    _, counts = recipe.loss_of(parts, [item(parts, texts, ranks=(0, 1, 1, 2), kind="ranking")], 1, cfg)  # five decided pairs and a tie
    decided = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    assert counts == {"right": sum(scores[i] > scores[j] for i, j in decided), "pairs": 5}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_gradients_do_not_depend_on_the_micro_batch(taught, small, tmp_path, size):
    _, _, file = taught
    parts, cfg = parts_of(small, tmp_path, {"data": {"files": [str(file)], "limit": 40}})
    items = parts.train[:12]
    assert len({len(i.answers) for i in items}) == 3                 # labels, pairs and rankings

    def gradients(step: int) -> list[torch.Tensor]:
        parts.reward_model.zero_grad(set_to_none=True)
        for start in range(0, len(items), step):
            recipe.loss_of(parts, items[start : start + step], len(items), cfg)[0].backward()
        return [p.grad.clone() for p in parts.reward_model.parameters()]

    for a, b in zip(gradients(len(items)), gradients(size), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_micro_batches_change_neither_the_number_of_steps_nor_what_they_do(small, tmp_path, monkeypatch):
    steps, told = [], []
    monkeypatch.setattr(recipe, "clip_and_step", lambda *a: steps.append(1) or clip_and_step(*a))
    for size in (None, 1, 3):
        cfg = reward_config(small, tmp_path / f"of-{size}", {"train": {"max_steps": 3}, "optim": {"microbatch_size": size}})
        train_reward_model(cfg)
        rows = [json.loads(line) for line in (cfg.run_dir / "metrics.jsonl").read_text().splitlines()]
        told.append([row[name] for row in rows for name in ("train/loss", "train/grad_norm", "train/accuracy")])
    assert len(steps) == 9 and told[1] == pytest.approx(told[0], rel=1e-3) and told[2] == pytest.approx(told[0], rel=1e-3)


def test_the_report_counts_the_ties_among_held_out_pairs_and_judges_the_others():
    def item(*ranks: int) -> Item:
        return Item([], Judgement("p", tuple(Response(f"{i} {'long ' * i}") for i in range(len(ranks))), "ranking", ranks=ranks))

    held = [item(0, 0), item(0, 1), item(1, 0, 1, 1)]
    scores = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    cfg = recipe.RewardConfig(model={"policy": "x"}, data={"files": "x"})
    report = recipe.held_out_report(recipe.Parts(None, None, [], held, "judgement", 0), cfg, 1.0, scores)["pairs"]
    assert report["ties"] == 4 and report["accuracy"]["mean"] == 1.0


def test_dropped_ties_are_counted_but_a_tie_with_a_soft_target_still_teaches(small, tmp_path, caplog):
    pair = {"prompt": PROMPT, "responses": [{"text": "in the barn"}, {"text": "in the pond"}], "kind": "comparison", "ranks": [0, 0]}
    file = write_rows(tmp_path / "j.jsonl", [pair, pair | {"target": 0.6}, pair | {"ranks": [0, 1]}])
    parts, _ = parts_of(small, tmp_path, {"data": {"files": [str(file)], "eval_frac": 0}, "algo": {"ties": "drop"}})
    assert (len(parts.train), parts.left_out) == (2, 1) and "1 of 3 judgements were left out" in caplog.text


def test_the_head_starts_with_deviation_one_over_root_d_plus_one(small):                              # fact 8
    weights = torch.cat([ScoredModel.from_policy(small.sft, seed=s).head.weight.flatten() for s in range(60)])
    assert weights.std().item() == pytest.approx(1 / math.sqrt(33), rel=0.05) and abs(weights.mean().item()) < 0.02


def test_no_usable_judgement_is_named(small, tmp_path):
    with pytest.raises(DataError, match=r"no usable judgement in .*pairs.jsonl \(96 read, 96 left out\)"):
        train_reward_model(reward_config(small, tmp_path / "run", {"model": {"context_tokens": 8}}))
    with pytest.raises(ConfigError, match="train.batch_size=500"):
        train_reward_model(reward_config(small, tmp_path / "run", {"train": {"batch_size": 500}}))


def test_a_head_that_is_not_saved_is_seen(small, tmp_path, monkeypatch):                              # peer bug 15
    save = ScoredModel.save

    def forgetful(self, folder, tokenizer):
        weight = self.head.weight.detach().clone()
        with torch.no_grad():
            self.head.weight.normal_()
        save(self, folder, tokenizer)
        with torch.no_grad():
            self.head.weight.copy_(weight)

    monkeypatch.setattr(ScoredModel, "save", forgetful)
    with pytest.raises(AuditError, match="gives outputs that differ"):
        train_reward_model(reward_config(small, tmp_path / "run", {"save": {"every_steps": None}}))


def test_a_sample_of_a_dry_run_says_which_answer_was_preferred(small, tmp_path):
    parts, _ = parts_of(small, tmp_path)
    first, second = recipe.shown(parts, item(parts, ["the pond", "a cat"], ranks=(1, 0), kind="pair")).split("[rank 0] ")
    assert first.startswith("[rank 1] ") and "the pond" in first and "a cat" in second
    assert recipe.shown(parts, item(parts, ["a cat"], label=False, kind="label")).startswith("[bad] ")


def test_answers_that_come_up_in_many_pairs_are_read_once_with_equal_scores_and_gradients(small):
    tokenizer = open_tokenizer(small.sft)
    prompt = prompt_from_json(PROMPT)
    answers = [encode_example(tokenizer, prompt, " ".join(ANIMALS[:n])) for n in range(1, 6)]
    drawn = [answers[i] for i in np.random.default_rng(0).integers(0, 5, 40)]
    seen: list[int] = []

    def gradients(score):
        model = ScoredModel.from_policy(small.sft, seed=3, tokenizer=tokenizer)
        parts = recipe.Parts(model, tokenizer, [], [], "", 0)
        model.model.base_model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True)
        values = score(parts)
        (values * torch.linspace(-1, 1, 40)).sum().backward()
        return values.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together, grads = gradients(lambda parts: recipe.read_answers(parts, drawn, "cpu"))
    assert sum(seen) == 5
    alone, expected = gradients(lambda parts: torch.cat([
        parts.reward_model.score(torch.tensor([a.tokens]), torch.ones(1, len(a.tokens), dtype=torch.bool)) for a in drawn]))
    assert torch.allclose(together, alone, atol=1e-5)
    assert all(torch.allclose(g, e, atol=1e-4) for g, e in zip(grads, expected, strict=True))


def test_batches_by_prompt_take_every_judgement_on_a_prompt_and_no_other(small, tmp_path):
    rng = np.random.default_rng(1)
    rows = [{"prompt": f"where is {ANIMALS[i % 6]}?", "chosen": answer(rng, 3) + f" {i}", "rejected": answer(rng, 2)} for i in range(30)]
    cfg = reward_config(small, tmp_path / "run", {
        "data": {"files": [str(write_rows(tmp_path / "p.jsonl", rows))], "eval_frac": 0.0},
        "train": {"max_steps": None, "epochs": 2.0, "batch_size": 2, "batch_by": "prompt"}})
    units = recipe.batch_units(recipe.build(cfg, None).train, cfg)
    assert [len(unit) for unit in units] == [5] * 6
    epoch = [recipe.items_of_step(step, units, cfg) for step in range(3)]
    assert all(len(items) == 10 and len({item.judgement.prompt for item in items}) == 2 for items in epoch)
    assert sorted(item.row for items in epoch for item in items) == list(range(30))
    assert train_reward_model(cfg)["steps"] == 6


def test_held_out_scores_are_written_by_their_place_in_the_file(taught):
    result, cfg, file = taught
    lines = [json.loads(line) for line in (cfg.run_dir / "scores.jsonl").read_text().splitlines()]
    judged = [json.loads(line) for line in file.read_text().splitlines()]
    tokenizer, model = open_tokenizer(result["model"]), ScoredModel.open(result["model"])
    assert len(lines) > 100
    for line in lines[:10]:
        row = judged[line["row"]]
        for told, response in zip(line["scores"], row["responses"], strict=True):
            tokens = torch.tensor([encode_example(tokenizer, prompt_from_json(row["prompt"]), response["text"]).tokens])
            assert model.score(tokens, torch.ones_like(tokens)).item() == pytest.approx(told, abs=1e-4)


def test_votes_are_learnt_as_shares_or_as_certain_winners(small, tmp_path):
    row = Judgement((), (Response("a"), Response("b")), "comparison", ranks=(1, 0), extra={"target": 0.3})
    for soft, expected in ((True, (1, 0, 0.7, 0.0)), (False, (1, 0, 1.0, 0.0))):
        cfg = reward_config(small, tmp_path / "run", {"algo": {"soft_targets": soft}})
        assert (*sides(Item([], row), cfg), asked_margin(Item([], row), cfg)) == expected
