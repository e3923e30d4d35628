from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.models.tiny import lone_logprobs
from tests.small import ANIMALS, config, ppo_config, sample_config, write_rows
from tutelage.base.errors import ArtifactError, ConfigError, DataError
from tutelage.base.files import folder_digest
from tutelage.base.records import Message
from tutelage.base.split import split_of
from tutelage.models import new_policy
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, save_policy
from tutelage.recipes import evaluate_measures
from tutelage.recipes.evaluate import EvaluateConfig, evaluate, word_judge
from tutelage.recipes.evaluate_measures import Judges, ModelEntry, against_panel, answer, held_out_texts, trained_stages
from tutelage.recipes.ppo import train_ppo
from tutelage.recipes.ppo_setup import pack_pretraining
from tutelage.recipes.sample import sample_answers
from tutelage.text.chat import encode_prompt
from tutelage.text.readers import read_prompts
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer


def rows_of(file) -> list[dict]:
    return [json.loads(line) for line in open(file, encoding="utf-8")]


# -- sample -----------------------------------------------------------------------------------------------------------------


def test_each_prompt_gets_k_answers_with_the_models_identity(small, tmp_path):
    result = sample_answers(sample_config(small, tmp_path / "run"))
    rows = rows_of(result["file"])
    assert (len(rows), result["prompts"], result["answers"]) == (10, 10, 30) and all(len(row["responses"]) == 3 for row in rows)
    assert [row["prompt"][0]["content"] for row in rows] == [row["prompt"] for row in rows_of(small.prompts)[:10]]
    for response in (r for row in rows for r in row["responses"]):
        assert response["model"] == f"{small.sft}@{folder_digest(small.sft)[:12]}" == result["model"]
        assert response["sampling"] == {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 6, "seed": 0}
    assert len({r["text"] for row in rows for r in row["responses"]}) > 5


def test_log_probs_are_those_of_the_model_at_the_sampling_temperature(small, tmp_path):
    result = sample_answers(sample_config(small, tmp_path / "run", {"rollout": {"temperature": 0.7}}))
    tokenizer, policy, checked = open_tokenizer(small.sft), open_policy(small.sft), 0
    prompts = read_prompts([small.prompts]).rows
    for row, prompt in zip(rows_of(result["file"]), prompts, strict=False):
        for response in row["responses"]:
            start = encode_prompt(tokenizer, prompt)
            spoken = [*tokenizer(response["text"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            if len(spoken) != len(response["logprobs"]):             # stopped at the limit, or other tokens with the same text
                continue
            alone = lone_logprobs(policy, [*start, *spoken], 0.7)[len(start) :]
            torch.testing.assert_close(torch.tensor(response["logprobs"]).double(), alone, rtol=0, atol=2e-5)
            checked += 1
    assert checked > 10


def test_the_same_seed_writes_the_same_file_whatever_the_batch_and_another_seed_another(small, tmp_path):
    files = {name: sample_answers(sample_config(small, tmp_path / name, over))["file"] for name, over in {
        "a": {}, "b": {"rollout": {"batch_size": 7}}, "other": {"seed": 1}}.items()}
    a, b, other = ([[r["text"] for r in row["responses"]] for row in rows_of(files[name])] for name in ("a", "b", "other"))
    assert a == b != other
    again = sample_answers(sample_config(small, tmp_path / "again"))["file"]
    assert open(again, "rb").read() == open(files["a"], "rb").read()


def test_both_sides_of_the_split_together_are_all_prompts(small, tmp_path):
    def texts(side):
        over = {"side": side, "data": {"limit": None, "eval_frac": 0.3}, "rollout": {"answers_per_prompt": 1, "max_tokens": 1}}
        return {row["prompt"][0]["content"] for row in rows_of(sample_answers(sample_config(small, tmp_path / side, over))["file"])}

    train, held, everything = texts("train"), texts("eval"), texts("all")
    assert train | held == everything and not train & held and train and held


def test_a_side_without_prompts_is_named(small, tmp_path):
    with pytest.raises(DataError, match="none of the 10 prompts of .* is on the eval side"):
        sample_answers(sample_config(small, tmp_path / "run", {"side": "eval", "data": {"eval_frac": 0}}))


# -- evaluate -----------------------------------------------------------------------------------------------------------------


def evaluate_config(small, run_dir, *over) -> EvaluateConfig:
    return config(EvaluateConfig, run_dir, {
        "models": {"sft": {"path": str(small.sft)}, "same": {"path": str(small.sft)}, "best_of_n": {"path": str(small.sft), "best_of": 4},
                   "base": {"path": str(small.base), "plain": True}},
        "reward": str(small.reward), "data": {"files": [str(small.prompts)], "eval_frac": 0.4}, "rollout": {"max_tokens": 6},
        "max_prompts": 24, "text_files": [str(small.corpus)], "demonstrations": [str(small.demonstrations)]}, *over)


def gold(prompt: str, answer: str) -> float:
    return min(len(answer) / 40, 1.0)


def prefer_longer(prompt: str, a: str, b: str) -> tuple[float, float]:
    return (0.4, 0.4) if len(a) == len(b) else (0.9, 0.1) if len(a) > len(b) else (0.1, 0.9)


def test_pairs_that_people_mostly_tie_count_less_against_the_ceiling():
    votes = {("a", "b"): (0.9, 0.1), ("a", "c"): (0.05, 0.15), ("b", "c"): (0.0, 1.0)}          # of a and c one in five decides
    told = against_panel(np.array([[2.0, 1.0, 0.0]]), [["a", "b", "c"]], ["which?"], lambda prompt, a, b: votes[a, b])
    assert told["bayes_ceiling"] == pytest.approx((0.9 + 0.2 * 0.75 + 1.0) / 2.2)
    assert told["expected_panel_accuracy"]["mean"] == pytest.approx((0.9 + 0.2 * 0.25 + 0.0) / 2.2)


@pytest.fixture(scope="module")
def evaluated(small, tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated")
    done = train_ppo(ppo_config(small, root / "ppo", {"save": {"every_steps": 1}}))
    cfg = evaluate_config(small, root / "run", {"models": {"ppo": {"path": done["path"]}}, "frontier": {"run": done["path"]},
                                                "curves": {"ppo": done["path"]}})
    result = evaluate(cfg, gold=gold, preference=prefer_longer)
    return result, json.loads((root / "run/report/report.json").read_text()), root / "run"


def test_the_report_has_the_schema_of_the_issue(evaluated):
    result, report, folder = evaluated
    assert set(report["seconds"]) == {"ppo"} and report["seconds"]["ppo"] > 0
    assert set(report["models"]) == {"sft", "same", "best_of_n", "base", "ppo"}
    for model in report["models"].values():
        assert {"path", "gold", "proxy", "kl", "length", "win_rate_vs_sft"} <= set(model)
        assert {"mean", "low", "high"} <= set(model["win_rate_vs_sft"]) and 0 <= model["win_rate_vs_sft"]["mean"] <= 1
        assert all(isinstance(model[key], float) for key in ("gold", "proxy", "kl", "length", "bits_per_byte"))
    assert report["reward_model"]["path"].endswith("reward")
    assert "bayes_ceiling" in report["reward_model"] and "accuracy_vs_gold" in report["reward_model"]
    assert [point["step"] for point in report["frontier"]] == [1, 2] and all({"kl", "proxy", "gold"} <= set(p) for p in report["frontier"])
    assert "//" not in (folder / "report/index.html").read_text().replace("http://www.w3.org", "")         # no outside host


def test_the_kl_of_a_model_to_itself_is_exactly_zero(evaluated):
    _, report, _ = evaluated
    assert report["models"]["sft"]["kl"] == 0.0 == report["models"]["same"]["kl"] and report["models"]["ppo"]["kl"] != 0.0


def test_a_model_against_itself_wins_half_of_the_time(evaluated):
    _, report, _ = evaluated
    assert report["models"]["same"]["win_rate_vs_sft"]["mean"] == pytest.approx(0.5)


def test_the_best_of_several_answers_scores_at_least_a_single_one(evaluated):
    _, report, _ = evaluated
    one, best = report["models"]["sft"], report["models"]["best_of_n"]
    assert best["proxy"] > one["proxy"] and best["kl"] == pytest.approx(1.38629436 - 0.75)            # ln 4 - 3/4, Gao et al. 2022


def test_the_kl_of_the_best_of_several_adds_what_its_own_model_is_from_the_reference(small, monkeypatch):
    # KL(best of n || ref) = E[log best of n / p] + E[log p / ref]; here the model finds its answers 2 nats likelier than the reference.
    prompts, reference = [(Message("user", f"where is {a}?"),) for a in ANIMALS], open_policy(small.sft)
    monkeypatch.setattr(evaluate_measures, "sum_logprobs", lambda policy, asked, *_: torch.full(
        (len(asked),), -3.0 if policy is reference else -1.0))
    judges = Judges(ScoredModel.open(small.reward), open_tokenizer(small.base), None, None)
    told = answer(evaluate_config(small, Path("run")), ModelEntry(path="base", best_of=4), small.base, prompts, reference, judges)
    assert told.kl == pytest.approx([1.38629436 - 0.75 + 2.0] * len(prompts))
    assert answer(evaluate_config(small, Path("run")), ModelEntry(path="base"), small.base, prompts, None, judges).kl == []


def test_a_model_of_another_vocabulary_has_no_kl_and_everything_else(small, tmp_path):
    other = train_tokenizer(["where is the cat? it sat in the barn."] * 3, vocab_size=290, out_dir=tmp_path / "other")
    save_policy(new_policy("nano", open_tokenizer(other), context_tokens=64, seed=0), open_tokenizer(other), tmp_path / "model")
    cfg = config(EvaluateConfig, tmp_path / "run", {
        "models": {"sft": {"path": str(small.sft)}, "other": {"path": str(tmp_path / "model")}}, "reward": str(small.reward),
        "data": {"files": [str(small.prompts)], "eval_frac": 0.4}, "rollout": {"max_tokens": 4}, "max_prompts": 4})
    found = evaluate(cfg)["models"]
    assert found["other"]["kl"] is None and found["sft"]["kl"] == 0.0 and isinstance(found["other"]["proxy"], float)


def test_every_prompt_is_held_out(evaluated, small):
    _, report, _ = evaluated
    assert report["models"]["sft"]["prompts"] == 24
    assert all(split_of(s["prompt"], eval_frac=0.4, seed=0) == "eval" for s in report["samples"])


def test_text_split_by_its_opening_is_measured_on_what_pretraining_held_out_and_ptx_trains_on_the_rest(small, tmp_path):
    texts = [f"the {a} old {b} sat in the {c}" for a in ANIMALS for b in ANIMALS[:4] for c in ("barn", "wood")]
    file = write_rows(tmp_path / "texts.jsonl", [{"text": t} for t in texts])
    held = [t for t in texts if split_of(t, eval_frac=0.4, seed=0, by="opening") == "eval"]
    split = {"eval_frac": 0.4, "split_by": "opening"}
    assert held_out_texts(evaluate_config(small, tmp_path / "run", {"text_files": [str(file)], "data": split})) == held != []
    tokenizer = open_tokenizer(small.base)
    cfg = ppo_config(small, tmp_path / "ppo", {"data": split, "ptx": {"files": [str(file)], "coef": 0.3, "eval_frac": 0.4}})
    packed = pack_pretraining(cfg, tokenizer)
    read = " ".join(tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in packed.tokens)
    assert all((t in read) == (t not in held) for t in texts)


def test_a_second_opinion_learns_words_from_ratings_and_judges_every_model_by_them(small, tmp_path):
    rated = [{"prompt": "where?", "completion": f"in the {ANIMALS[i % 8]} {'barn' if i % 3 else 'wood'}", "label": bool(i % 3)}
             for i in range(60)]
    cfg = evaluate_config(small, tmp_path / "run", {
        "second_opinion": {"files": [str(write_rows(tmp_path / "rated.jsonl", rated))]}, "max_prompts": 6, "text_files": []})
    scorer = word_judge(cfg)
    barn, wood, neither = scorer.score(["the barn", "the wood", "the"])
    assert barn > neither > wood
    evaluate(cfg)
    models = json.loads((tmp_path / "run/report/report.json").read_text())["models"]
    assert models["same"]["win_rate_by_words"]["mean"] == 0.5 and models["base"]["win_rate_by_words"]["mean"] != 0.5
    with pytest.raises(DataError, match="the 40 ratings of .* are not of both kinds"):
        good = write_rows(tmp_path / "good.jsonl", [row for row in rated if row["label"]])
        evaluate(evaluate_config(small, tmp_path / "other", {"second_opinion": {"files": [str(good)]}}))


def test_a_long_prompt_takes_room_from_its_own_answer_only(small, tmp_path):
    prompts = [(Message("user", text),) for text in ("where is cat?", "where is " + "cat " * 20, "where is owl?")]
    cfg = evaluate_config(small, tmp_path / "run", {"rollout": {"max_tokens": 40}})
    tokenizer = open_tokenizer(small.base)
    judges = Judges(ScoredModel.open(small.reward), tokenizer, None, None)
    told = answer(cfg, ModelEntry(path="base"), small.base, prompts, open_policy(small.base), judges)
    room = [48 - len(encode_prompt(tokenizer, p)) for p in prompts]
    assert told.tokens[0] == room[0] > 30 and told.tokens[1] <= room[1] <= 20       # the first of them never stops by itself


def test_without_named_curves_the_report_draws_those_of_every_model_that_is_a_run_once(tmp_path):
    for name in ("sft", "ppo", "rm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("")
    at = {name: str(tmp_path / name) for name in ("sft", "ppo", "rm")}
    models = {"base": {"path": "elsewhere"}, "ppo": {"path": at["ppo"]}, "best_of_n": {"path": at["sft"]}, "sft": {"path": at["sft"]}}
    cfg = EvaluateConfig(models=models, reward=at["rm"], data={"files": "prompts.jsonl"})
    assert list(trained_stages(cfg, "sft").items()) == [("sft", tmp_path / "sft"), ("reward", tmp_path / "rm"), ("ppo", tmp_path / "ppo")]
    assert trained_stages(cfg.model_copy(update={"curves": {"x": "y"}}), "sft") == {"x": Path("y")}


def test_no_held_out_prompt_is_named(small, tmp_path):
    with pytest.raises(DataError, match="none of the 96 prompts of .* is held out"):
        evaluate(evaluate_config(small, tmp_path / "run", {"data": {"eval_frac": 0}}))


def test_the_ancestors_in_the_report_reach_the_data(evaluated, small):
    _, report, folder = evaluated
    verbs = [a["verb"] for a in report["provenance"]["ancestors"]]
    assert verbs[0] == "evaluate" and "ppo" in verbs
    ppo = report["provenance"]["ancestors"][verbs.index("ppo")]
    assert ppo["parents"]["data"][0]["path"] == str(small.prompts)


def test_an_evaluation_that_is_done_is_not_done_again(evaluated, small):
    result, _, folder = evaluated
    cfg = config(EvaluateConfig, folder, yaml.safe_load((folder / "config.yaml").read_text()), {"resume": True})
    before = folder_digest(folder)
    assert evaluate(cfg, gold=gold) == result and folder_digest(folder) == before


def test_a_model_that_is_not_there_is_named_before_anything_runs(small, tmp_path):
    with pytest.raises(ArtifactError, match="no model at nowhere"):
        evaluate(evaluate_config(small, tmp_path / "run", {"models": {"ppo": {"path": "nowhere"}}}))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="models"):
        config(EvaluateConfig, tmp_path, {"reward": "x", "data": {"files": ["x"]}})


def test_a_frontier_run_without_checkpoints_is_named_before_anything_runs(small, tmp_path):
    cfg = evaluate_config(small, tmp_path / "run", {"frontier": {"run": "nowhere"}, "max_prompts": 2, "text_files": []})
    with pytest.raises(ArtifactError, match="frontier.run: nowhere holds no checkpoints"):
        evaluate(cfg)
    assert not (tmp_path / "run").exists()
