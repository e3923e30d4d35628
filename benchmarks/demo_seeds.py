"""The demo over several seeds, with the claims it is held to.

    python benchmarks/demo_seeds.py [--seeds 0 1 2 3 4] [--jobs 2] [--run-dir runs/seeds]

Each seed is one `tutelage demo` in a process of its own (OMP_NUM_THREADS = cores / jobs), then an SFT of equal compute: the same base model
and demonstrations for as many steps as fit into the seconds of SFT, sampling, judging, reward model and PPO together, best held-out
checkpoint kept.
Prints a markdown table and writes it with every number to RUN_DIR/seeds.json. Finished seeds are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def run_seed(seed: int, folder: Path, threads: int) -> None:
    """One demo and its equal-compute SFT; output goes to a log beside it."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    log = folder.parent / f"{folder.name}.log"
    with log.open("a", encoding="utf-8") as out:
        demo = ["-m", "tutelage.cli.main", "demo", "--run-dir", str(folder), "--seed", str(seed)]
        for arguments in (demo, [__file__, "--long-sft", str(folder)]):
            subprocess.run([sys.executable, *arguments], env=env, stdout=out, stderr=out, check=True)


def long_sft(folder: Path) -> dict[str, Any]:
    """Train the SFT of equal compute for one finished demo and measure its gold on the same held-out prompts."""
    from tutelage.base.config import load_config
    from tutelage.base.stats import mean_ci, paired_difference
    from tutelage.demo import gold
    from tutelage.models.heads import ScoredModel
    from tutelage.models.policy import open_policy, resolve_model
    from tutelage.recipes.evaluate_measures import EvaluateConfig, Judges, ModelEntry, answer, held_out_prompts
    from tutelage.recipes.sft import SFTConfig, train_sft
    from tutelage.text.tokenizer import open_tokenizer

    seconds = {stage: result(folder, stage)["seconds"] for stage in ("sft", "sample", "judge", "reward", "ppo")}
    steps = round(result(folder, "sft")["steps"] * sum(seconds.values()) / seconds["sft"])
    cfg, _ = load_config(SFTConfig, folder / "sft" / "config.yaml",
                         ["train.epochs=null", f"train.max_steps={steps}", "eval.patience=null", f"run_dir={folder / 'sft_long'}"], env={})
    trained = train_sft(cfg)
    evaluation, _ = load_config(EvaluateConfig, folder / "evaluate" / "config.yaml", env={})
    reward = resolve_model(folder / "reward")
    tokenizer = open_tokenizer(reward)
    judges = Judges(ScoredModel.open(reward, tokenizer=tokenizer), tokenizer, gold.score, None)
    prompts, ref_policy = held_out_prompts(evaluation), open_policy(resolve_model(folder / "sft"))
    told = {name: answer(evaluation, ModelEntry(path=str(folder / name)), resolve_model(folder / name), prompts, ref_policy, judges)
            for name in ("sft_long", "ppo")}
    sixteen = ModelEntry(path=str(folder / "sft"), best_of=16)
    best_of = answer(evaluation, sixteen, resolve_model(folder / "sft"), prompts, ref_policy, judges)
    found = {"steps": trained["steps"], "best_step": trained["best_step"], "gold": mean_ci(told["sft_long"].gold),
             "ppo_minus_long_sft": paired_difference(told["ppo"].gold, told["sft_long"].gold),
             "ppo_minus_best_of_16": paired_difference(told["ppo"].gold, best_of.gold)}
    (folder / "long_sft.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def result(folder: Path, stage: str) -> dict[str, Any]:
    return json.loads((folder / stage / "result.json").read_text(encoding="utf-8"))


def summarize(folder: Path) -> dict[str, Any]:
    """The numbers of one seed."""
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    models, reward = report["models"], report["reward_model"]
    row: dict[str, Any] = {f"gold_{name}": m["gold"] for name, m in models.items()}
    row |= {f"{name}_half_width": (models[name]["gold_ci"]["high"] - models[name]["gold_ci"]["low"]) / 2 for name in ("base", "sft", "ppo")}
    row |= {"gap_closed": (row["gold_ppo"] - row["gold_sft"]) / (1 - row["gold_sft"]), "kl": models["ppo"]["kl"],
            "panel_accuracy": reward["expected_panel_accuracy"]["mean"], "bayes_ceiling": reward["bayes_ceiling"],
            "accuracy_vs_gold": reward["accuracy_vs_gold"],
            "seconds": sum(result(folder, p.parent.name)["seconds"] for p in folder.glob("*/result.json") if p.parent.name != "sft_long")}
    row["of_ceiling"] = row["panel_accuracy"] / row["bayes_ceiling"]
    long = json.loads((folder / "long_sft.json").read_text(encoding="utf-8"))
    return row | {"gold_sft_long": long["gold"]["mean"], "ppo_minus_long_sft": long["ppo_minus_long_sft"],
                  "ppo_minus_best_of_16": long["ppo_minus_best_of_16"]}


def table(rows: dict[int, dict[str, Any]]) -> str:
    """Markdown: one column per seed, then mean and 95% half-width over seeds (Student's t)."""
    from tutelage.base.stats import mean_ci

    rows = {s: {name: value["mean"] if isinstance(value, dict) else value for name, value in row.items()} for s, row in rows.items()}
    names = [name for name, value in next(iter(rows.values())).items() if isinstance(value, float)]
    lines = ["| | " + " | ".join(f"seed {s}" for s in rows) + " | mean ± 95% |", "|---|" + "---|" * (len(rows) + 1)]
    for name in names:
        values = np.array([rows[s][name] for s in rows])
        over = mean_ci(values)
        cells = [f"{v:.3f}" for v in values] + [f"{over['mean']:.3f} ± {over['high'] - over['mean']:.3f}"]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--long-sft", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.long_sft:
        print(long_sft(options.long_sft))
        return
    options.run_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    folders = {seed: options.run_dir / f"seed-{seed}" for seed in options.seeds}
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda seed: run_seed(seed, folders[seed], max(1, (os.cpu_count() or 1) // options.jobs)), options.seeds))
    rows = {seed: summarize(folder) for seed, folder in folders.items()}
    (options.run_dir / "seeds.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))
    print(f"\n{len(rows)} seeds, {options.jobs} at a time: {(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
