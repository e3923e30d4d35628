"""Puts a real run into the docs: `python docs/outputs.py runs/demo --machine "two cores of a laptop"` rewrites what the pages show of it,
and the picture of its report.

What a page shows stands between `<!-- output: STAGE -->` and `<!-- end -->`; nothing there is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from tutelage.cli.output import lines, plain
from tutelage.evals.report import write_picture
from tutelage.train.run import read_metrics

DOCS = Path(__file__).parent
MARKED = re.compile(r"(<!-- output: (\w+) -->\n).*?(<!-- end -->)", re.S)
SHOWN = {
    "pretrain": ("train/loss", "train/grad_norm", "eval/bits_per_byte"),
    "sft": ("train/loss", "train/grad_norm", "eval/loss"),
    "reward": ("train/loss", "train/accuracy", "train/grad_norm"),
    "ppo": ("objective/score", "objective/kl", "policy/clipfrac", "policy/approx_kl", "policy/entropy", "value/explained_variance",
            "response/tokens", "response/finished_frac"),
}
"""Stage -> metrics of the few rows that are shown."""
REPORTED = ("accuracy", "baselines", "above_bag_of_words")
"""What is shown of a reward model's long report."""


def output_of(name: str, run: Path, machine: str) -> str:
    """What a page shows of a stage of a demo's run (`demo`: of all stages; `masks`, `row`: of its files)."""
    if name == "masks":
        return fenced("\n\n".join((run / "sft" / "masks.txt").read_text(encoding="utf-8").split("\n\n")[:2]))
    if name == "row":
        row = json.loads((run / "sample" / "answers.jsonl").read_text(encoding="utf-8").splitlines()[0])
        for response in row["responses"]:
            response["logprobs"] = f"… {len(response['logprobs'])} numbers"
        return fenced(json.dumps(row, ensure_ascii=False, indent=1), "json")
    if name == "demo":
        return whole(run, machine)
    result = json.loads((run / name / "result.json").read_text(encoding="utf-8"))
    if name == "reward":
        result["pairs"] = {key: result["pairs"][key] for key in REPORTED if key in result["pairs"]}
    if name == "evaluate":
        return f"{took(result, machine)}\n\n{models_table(run / name)}"
    parts = [f"{took(result, machine)} Its result:", fenced("\n".join(lines(plain(result))))]
    if name in SHOWN:
        parts += ["A few of its rows:", metrics_table(read_metrics(run / name), SHOWN[name])]
    return "\n\n".join(parts)


def took(result: dict[str, Any], machine: str) -> str:
    return f"In the demo (one run, on {machine}) this stage took {result['seconds']:.0f} s."


def metrics_table(rows: list[dict[str, Any]], names: tuple[str, ...], *, count: int = 6) -> str:
    """Rows spread evenly, first and last among them; of the rows that measured everything where they are enough."""
    names = tuple(name for name in names if any(row.get(name) is not None for row in rows))
    full = [row for row in rows if all(name in row for name in names)]
    rows = full if len(full) >= 3 else rows
    places = sorted({round(i * (len(rows) - 1) / (count - 1)) for i in range(count)})
    lines = [[str(rows[i]["step"]), *("" if rows[i].get(name) is None else f"{rows[i][name]:.3g}" for name in names)] for i in places]
    return table(["step", *(f"`{name}`" for name in names)], lines)


def models_table(stage: Path) -> str:
    """The comparison of the report, one model per line."""
    models = json.loads((stage / "report" / "report.json").read_text(encoding="utf-8"))["models"]
    names = ("gold", "proxy", "kl", "length", "distinct_2", "bits_per_byte")
    lines = [[model, *("" if row.get(n) is None else f"{row[n]:.3g}" for n in names), interval(row["win_rate_vs_sft"])]
             for model, row in models.items()]
    return table(["model", *(f"`{name}`" for name in names), "`win_rate_vs_sft`"], lines)


def interval(estimate: dict[str, float]) -> str:
    return "{mean:.2f} ({low:.2f} to {high:.2f})".format(**estimate)


def whole(run: Path, machine: str) -> str:
    """Seconds of every stage."""
    seconds = {p.parent.name: json.loads(p.read_text(encoding="utf-8"))["seconds"] for p in run.glob("*/result.json")}
    order = sorted(seconds, key=lambda name: (run / name / "result.json").stat().st_mtime)
    lines = [*([name, f"{seconds[name]:.0f}"] for name in order), ["together", f"{sum(seconds.values()):.0f}"]]
    return f"One run, on {machine}:\n\n{table(['stage', 'seconds'], lines)}"


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)])


def fenced(body: str, language: str = "") -> str:
    return f"```{language}\n{body}\n```"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rewrite what the docs show of a run.")
    parser.add_argument("run", type=Path, help="folder of a finished `tutelage demo`")
    parser.add_argument("--machine", required=True, help="what it ran on, in words, for the sentence `one run, on …`")
    given = parser.parse_args()
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = MARKED.sub(lambda m: f"{m[1]}{output_of(m[2], given.run, given.machine)}\n{m[3]}", before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"rewrote {page}")
    write_picture(DOCS / "report.svg", json.loads((given.run / "report" / "report.json").read_text(encoding="utf-8")))
