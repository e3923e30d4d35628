"""`tutelage demo`: the whole circle on the embedded world."""

from __future__ import annotations

import json
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click

from tutelage.base.config import MAX_SEED

from .group import Group
from .output import only_json_on_stdout, print_result


@click.group(cls=Group, invoke_without_command=True)
@click.option("--quick", is_flag=True, help="A miniature of it, under a minute: everything runs, nothing gets good.")
@click.option(
    "--run-dir", metavar="FOLDER", help="Folder of the run; a stage that is finished there is not run again.  [default: runs/demo]"
)
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Seeds everything random in the run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
@click.option("--set", "overrides", multiple=True, metavar="stages.NAME.config.KEY=VALUE", help="Change a setting of a stage.")
@click.pass_context
def demo(
    ctx: click.Context, quick: bool, run_dir: str | None, seed: int, as_json: bool, quiet: bool, verbose: bool, overrides: tuple[str, ...]
) -> None:
    """From nothing to a PPO-aligned model and a report: pretrain, SFT, judgements, reward model, PPO, evaluation."""
    if ctx.invoked_subcommand is not None:
        return
    from tutelage.base.log import setup_logging

    setup_logging(1 if verbose else -1 if quiet else 0)
    with only_json_on_stdout(as_json):
        result = run_demo(quick, Path(run_dir or ("runs/demo-quick" if quick else "runs/demo")), seed, list(overrides))
    print_result(result, as_json)


def run_demo(quick: bool, folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run the pipeline of demo/circle.yaml (or quick.yaml) with the panel as labelers and the gold preference as judge of the result."""
    from tutelage.base.config import load_config
    from tutelage.demo import gold
    from tutelage.demo.panel import Panel
    from tutelage.evals.report import write_report
    from tutelage.recipes.evaluate import evaluate
    from tutelage.recipes.pipeline import PipelineConfig, Verb, run_pipeline, standard_verbs
    from tutelage.train.run import read_metrics

    from .demo_stages import JudgeConfig, WorldConfig, judge, make_world

    verbs = standard_verbs()
    verbs |= {"world": Verb(WorldConfig, make_world), "judge": Verb(JudgeConfig, judge),
              "evaluate": Verb(verbs["evaluate"].config, partial(evaluate, gold=gold.score, preference=Panel(seed).outcomes))}
    with resources.as_file(resources.files("tutelage.demo") / ("quick.yaml" if quick else "circle.yaml")) as file:
        cfg, _ = load_config(PipelineConfig, file, overrides, env={}, flags={"run_dir": folder, "seed": seed})
    report: dict[str, Any] = {"title": "From raw text to an assistant people prefer", "stages": list(cfg.stages)}
    report |= {"seconds": {}, "curves": {}}

    def on_stage(name: str, result: dict[str, Any]) -> None:
        """After each stage the report is written anew, so an interrupted demo leaves a readable one."""
        report["seconds"][name] = result["seconds"]
        if (folder / name / "metrics.jsonl").exists():
            report["curves"][name] = read_metrics(folder / name)
        if name == "evaluate":
            measured = json.loads((folder / "evaluate" / "report" / "report.json").read_text(encoding="utf-8"))
            report.update(measured | {"seconds": report["seconds"]})
        write_report(folder / "report", report)

    result = run_pipeline(cfg, verbs, on_stage=on_stage)
    models = result["stages"]["evaluate"]["models"]
    return {"path": str(folder), "report": str(folder / "report" / "index.html"), "gold": {name: m["gold"] for name, m in models.items()},
            "seconds": sum(report["seconds"].values()), "next": f"tutelage chat {folder}/ppo"}


@demo.command()
@click.argument("prompt")
@click.argument("answer")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def gold(prompt: str, answer: str, as_json: bool) -> None:
    """What the gold preference, 0 to 1, says of ANSWER to PROMPT, and why."""
    from tutelage.demo.gold import explain

    print_result(explain(prompt, answer), as_json)
