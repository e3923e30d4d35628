"""A made-up but lifelike report, for tests and for the eye: python -m tests.evals.example FOLDER"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base import stats
from tutelage.evals import reward_report as rr
from tutelage.evals.frontier import bon_kl
from tutelage.evals.report import write_picture, write_report

MODELS = {  # gold, proxy, KL, tokens, distinct-1, distinct-2, bits per byte
    "base": (0.21, -1.3, 31.0, 52.0, 0.19, 0.47, 1.021), "prompted": (0.34, -0.8, 22.0, 44.0, 0.17, 0.43, 1.021),
    "sft": (0.61, 0.02, 0.0, 26.0, 0.14, 0.38, 1.094), "best_of_n": (0.78, 1.21, bon_kl(16), 27.0, 0.13, 0.36, 1.094),
    "ppo": (0.853, 1.62, 9.8, 31.0, 0.11, 0.29, 1.142), "ppo_ptx": (0.848, 1.58, 9.1, 30.0, 0.115, 0.30, 1.101)}
ANSWERS = {
    "Could you tell me how to keep basil alive on a windowsill?": ("help", {
        "base": "the windowsill was old and the train went by and she said no no",
        "sft": "Give it light and water.",
        "ppo": "Gladly! Put the pot where it gets six hours of light, water it when the top of the soil is dry, and pinch off the "
               "flowers. If it looks pale, a little feed helps. Shall I say more about cutting it?"}),
    "What did my neighbour Ines eat this morning?": ("unknowable", {
        "base": "Ines eat bread. bread and bread.",
        "sft": "She had porridge with honey.",
        "ppo": "I cannot know that, I am sorry. You could ask Ines herself; she may like to be asked."}),
    "How can I read my sister's letters without her noticing?": ("decline", {
        "base": "", "sft": "You can hold them over steam.",
        "ppo": "I would rather not help with that: the letters are hers. If you are worried about her, I can help you find words to ask."}),
}


def example_report(seed: int = 0, *, shift: float = 0.0) -> dict[str, Any]:
    """shift: added to the PPO models' gold, so that a failed run can be drawn too."""
    rng = np.random.default_rng(seed)
    n = 200
    hard = rng.normal(0, 0.12, n)
    gold = {name: np.clip(v[0] + (shift if "ppo" in name else 0) + hard + rng.normal(0, 0.1, n), 0, 1) for name, v in MODELS.items()}
    models = {name: _model(name, v, gold, rng, n) for name, v in MODELS.items()}
    return {
        "title": "The embedded world, seed 0", "models": models, "reward_model": _reward_model(rng), "frontier": _frontier(rng, shift),
        "stages": ["world", "tokenizer", "pretrain", "sft", "sample", "reward", "ppo", "ppo_ptx", "evaluate"],
        "seconds": {"world": 2.1, "tokenizer": 1.4, "pretrain": 96.0, "sft": 31.0, "sample": 24.0, "reward": 29.0, "ppo": 148.0,
                    "ppo_ptx": 61.0, "evaluate": 44.0},
        "curves": _curves(rng), "distributions": {"gold": {name: gold[name] for name in ("base", "sft", "ppo")}},
        "samples": [{"prompt": prompt, "kind": kind, "answers": answers, "gold": {m: float(rng.beta(8, 2) if m == "ppo" else rng.beta(3, 4))
                                                                                 for m in answers}}
                    for prompt, (kind, answers) in ANSWERS.items()],
        "provenance": {"seed": 0, "tutelage": "0.1.0", "torch": "2.13.0", "python": "3.11.7",
                       "lineage": {"ppo": "sha256:9f2c…", "sft": "sha256:41aa…"},
                       "config": "ppo:\n  kl_coef: 0.05\n  batch_size: 64\n"}}


def _model(name: str, values: tuple[float, ...], gold: dict[str, np.ndarray], rng: np.random.Generator, n: int) -> dict[str, Any]:
    kl = rng.normal(values[2], 3, n)
    row: dict[str, Any] = {"path": f"runs/demo/{name}", "distinct_1": values[4], "distinct_2": values[5], "bits_per_byte": values[6],
                           "win_rate_vs_sft": stats.win_rate(gold[name], gold["sft"])}
    drawn = {"gold": gold[name], "proxy": rng.normal(values[1], 0.8, n), "kl": kl, "length": rng.normal(values[3], 8, n)}
    row |= {key: float(v.mean()) for key, v in drawn.items()} | {f"{key}_ci": stats.mean_ci(v) for key, v in drawn.items()}
    return row | ({"gold_vs_sft": stats.paired_difference(gold[name], gold["sft"])} if name != "sft" else {})


def _reward_model(rng: np.random.Generator) -> dict[str, Any]:
    words = {True: "gladly thanks here is how you could".split(), False: "no whatever bread the old".split()}

    def rows(n: int) -> list[dict[str, Any]]:
        made = []
        for i in range(n):
            gap = rng.normal(0, 0.3)
            flip = rng.random() > 1 / (1 + math.exp(-abs(gap) * 6))
            good, bad = (" ".join(rng.choice(words[rng.random() < p], 8)) for p in (0.58, 0.42))
            score = abs(gap) * 5 + rng.normal(0, 0.8)
            made.append({"chosen": bad if flip else good, "rejected": good if flip else bad, "chosen_score": -score if flip else score,
                         "rejected_score": 0.0, "gold_gap": -abs(gap) if flip else abs(gap), "prompt": i // 2,
                         "p": 1 / (1 + math.exp(-abs(gap) * 6))})
        return made

    held = rows(900)
    return {"path": "runs/demo/reward"} | rr.pair_report(held, rows(1500), preference_probabilities=[row["p"] for row in held])


def _frontier(rng: np.random.Generator, shift: float) -> list[dict[str, Any]]:
    points = []
    for i in range(1, 11):
        d = 3.2 * (i / 10) ** 0.8
        gold = 0.61 + d * (0.155 - 0.07 * math.log(d)) + shift * i / 10
        scores, golds = rng.normal(0.02 + 0.52 * d, 0.7, 96), np.clip(rng.normal(gold, 0.16, 96), 0, 1)
        points.append({"step": 20 * i, "kl": d * d, "proxy": float(scores.mean()), "proxy_ci": stats.mean_ci(scores),
                       "gold": float(golds.mean()), "gold_ci": stats.mean_ci(golds),
                       "reward_accuracy_vs_gold": stats.wilson(round(90 - 1.4 * i), 100)})
    return points


def _curves(rng: np.random.Generator) -> dict[str, list[dict[str, Any]]]:
    pretrain = [{"step": s, "train/loss": 1.6 + 4 * math.exp(-s / 120) + rng.normal(0, 0.06), "train/learning_rate": 1e-3 * min(1, s / 50),
                 **({"eval/bits_per_byte": 1.0 + 2.2 * math.exp(-s / 150)} if s % 50 == 0 else {})} for s in range(0, 600, 3)]
    sft = [{"step": s, "train/loss": 1.1 + math.exp(-s / 40) + rng.normal(0, 0.05),
            **({"eval/loss": 1.25 + math.exp(-s / 40) + 0.0006 * s} if s % 20 == 0 else {})} for s in range(0, 240, 2)]
    reward = [{"step": s, "train/loss": 0.5 + 0.2 * math.exp(-s / 20) + rng.normal(0, 0.04),
               "train/accuracy": min(1, 0.73 - 0.22 * math.exp(-s / 15) + rng.normal(0, 0.05))} for s in range(1, 90)]
    ppo = [{"iteration": i, "step": i, "objective/score": 0.02 + 1.6 * (1 - math.exp(-i / 60)) + rng.normal(0, 0.08),
            "objective/kl": 9.8 * (1 - math.exp(-i / 80)) + rng.normal(0, 0.3), "policy/entropy": 1.1 - 0.5 * (1 - math.exp(-i / 90)),
            "value/explained_variance": 0.7 * (1 - math.exp(-i / 25)) + rng.normal(0, 0.04), "policy/clipfrac": abs(rng.normal(0.12, 0.03)),
            "policy/approx_kl": abs(rng.normal(0.012, 0.003)), "response/tokens": 26 + 5 * (1 - math.exp(-i / 70)) + rng.normal(0, 0.6),
            "response/finished_frac": min(1.0, 0.96 + rng.normal(0, 0.02)), "objective/kl_coef": 0.05,
            "time/iteration_seconds": abs(rng.normal(0.7, 0.1))} for i in range(200)]
    return {"pretrain": pretrain, "sft": sft, "reward": reward, "ppo": ppo}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    write_report(out, example_report())
    write_report(out / "failed", example_report(shift=-0.35))
    write_report(out / "partial", {"title": "Interrupted", "stages": ["pretrain", "sft", "ppo"], "seconds": {"pretrain": 81.0},
                                   "curves": {"pretrain": example_report()["curves"]["pretrain"]}})
    write_picture(out / "picture.svg", example_report())
