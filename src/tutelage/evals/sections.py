"""The report's sections, each from its part of the data, each content with nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.base.stats import Estimate
from tutelage.evals import charts
from tutelage.evals.charts import Dot, Mark, Series
from tutelage.evals.curves import panels
from tutelage.evals.frontier import distance, fit_gao
from tutelage.evals.headline import gold_peak, judged_by, known, missing, name_of, read_estimate
from tutelage.evals.page import Page, e, grid, section
from tutelage.evals.svg import Figure, color_of, number, numbers, percent

Report = Mapping[str, Any]

COLUMNS: dict[str, tuple[str, int]] = {
    "gold": ("gold, 0–1", 3), "proxy": ("reward model’s score", 3), "win_rate_vs_sft": ("win rate against SFT", 3),
    "win_rate_by_words": ("win rate by words alone", 3), "kl": ("KL to reference, nats", 3), "length": ("length, tokens", 3),
    "distinct_1": ("distinct‑1", 3), "distinct_2": ("distinct‑2", 3), "bits_per_byte": ("bits per byte, held‑out text", 4),
    "perplexity": ("perplexity, held‑out dialogues", 3), "dialogue_bits_per_byte": ("bits per byte, held‑out dialogues", 3)}


def models_figure(report: Report) -> Figure | None:
    """Every model's gold (or, where that is unknown, the reward model's score) with its interval; None before any is measured."""
    models, key = report["models"], judged_by(report)
    rows = {name: read_estimate(row, key) for name, row in models.items()}
    dots = [Dot(name_of(name), rate["mean"], rate["low"], rate["high"], color_of(name, list(models)))
            for name, rate in rows.items() if known(rate["mean"])]
    if not dots:
        return None
    gold = key == "gold"
    return charts.dot_plot(
        dots, title="What people would really think" if gold else "What the reward model thinks",
        desc=_values(dots), x_label="gold preference, 0–1" if gold else "reward model’s score",
        rules=((1.0, "perfect"),) if gold else (), include=(0.0,) if gold else ())


def models_section(page: Page, report: Report) -> str:
    models = report["models"]
    lead = "Every model answers the same held-out prompts. Whiskers and brackets are 95 % intervals over prompts."
    figure = models_figure(report)
    if figure is None:
        return section("models", "Who answers best", lead)
    used = [key for key in COLUMNS if any(known(read_estimate(row, key)["mean"]) for row in models.values())]
    head = "".join(f'<th scope="col">{e(COLUMNS[key][0])}</th>' for key in used)
    body = "".join(f'<tr><th scope="row"><span class="swatch {color_of(name, list(models))}"></span>{e(name_of(name))}</th>'
                   f'{"".join(_cell(read_estimate(row, key), COLUMNS[key][1]) for key in used)}</tr>' for name, row in models.items())
    numbers = (f'<div class="card scroll" tabindex="0"><table><thead><tr><th scope="col">model</th>{head}</tr></thead>'
               f"<tbody>{body}</tbody></table></div>")
    shapes = [charts.histogram({name_of(n): v for n, v in values.items()}, {name_of(n): color_of(n, list(values)) for n in values},
                               title=f"Spread of {key} over prompts", desc=f"Histograms of {key}, one per model", x_label=key)
              for key, values in report["distributions"].items() if values]
    ladder = page.figure(figure, _judge_note(judged_by(report)), wide=not shapes)
    return section("models", "Who answers best", lead, grid(ladder, *map(page.figure, shapes)), numbers)


def _judge_note(key: str) -> str:
    if key == "gold":
        return "Mean gold preference: the judge that no training ever saw."
    return "The policy was trained to raise this very score, so it flatters. No true preference is known here."


def _cell(value: Estimate, digits: int) -> str:
    if not known(value["mean"]):
        return "<td>–</td>"
    if known(value["low"]) and known(value["high"]):
        mean, low, high = numbers([value["mean"], value["low"], value["high"]], digits)
        return f'<td>{e(mean)}<span class="ci">[{e(low)}, {e(high)}]</span></td>'
    return f"<td>{e(number(value['mean'], digits))}</td>"


def frontier_figure(report: Report, key: str) -> Figure | None:
    """gold or proxy against sqrt(KL) along a run's checkpoints, with Gao et al.'s RL form fitted; None with no points."""
    rows = [row for row in report["frontier"] if known(read_estimate(row, key)["mean"]) and known(read_estimate(row, "kl")["mean"])]
    if not rows:
        return None
    values = [read_estimate(row, key) for row in rows]
    x = [distance(read_estimate(row, "kl")["mean"]) for row in rows]
    color = "k-ppo" if key == "gold" else "k-c1"
    series = [Series("", x, [v["mean"] for v in values], color, [v["low"] for v in values], [v["high"] for v in values], dots=True)]
    marks = _comparison_marks(report, key)
    start = next((m for m in marks if m.x == 0), None)
    desc = f"{key} from {number(values[0]['mean'])} to {number(values[-1]['mean'])} over {len(rows)} checkpoints"
    if start is not None and (fit := fit_gao(x, [v["mean"] - start.y for v in values], "rl")) is not None:
        curve = [0.5 + (max(x) - 0.5) * i / 60 for i in range(61)]
        series.append(Series("", curve, [start.y + float(r) for r in fit(curve)], "k-mute", dash="5 4", in_table=False))
        where = f"; its peak would be at √KL {number(fit.peak_d)}" if known(fit.peak_d) and fit.peak_d < 20 else ""
        desc += f". Dashed: R(d) = d (α − β ln d) with α {number(fit.alpha)}, β {number(fit.beta)}{where}"
    peak = gold_peak({"frontier": rows}) if key == "gold" else None
    if peak is not None and len(rows) > 2:
        label = "peak, passed" if peak.passed else "highest"
        marks.append(Mark(x[peak.index], values[peak.index]["mean"], f"{label}: {number(values[peak.index]['mean'])}", "k-ink"))
    return charts.line_chart(
        series, title="True preference" if key == "gold" else "Reward model’s score", desc=desc, marks=marks, include_x=(0.0,),
        x_label="√KL from the reference, √nats", y_label="gold, 0–1" if key == "gold" else "score (1 = one standard deviation)")


def _comparison_marks(report: Report, key: str) -> list[Mark]:
    """The reference at 0 and best-of-n at its KL."""
    marks = []
    for name in ("sft", "best_of_n"):
        row = report["models"].get(name)
        if row is None or not known(read_estimate(row, key)["mean"]):
            continue
        kl = 0.0 if name == "sft" else read_estimate(row, "kl")["mean"]
        if known(kl):
            value = read_estimate(row, key)
            marks.append(Mark(distance(kl), value["mean"], name_of(name), color_of(name), value["low"], value["high"]))
    return marks


def frontier_section(page: Page, report: Report) -> str:
    figures = [figure for key in ("gold", "proxy") if (figure := frontier_figure(report, key)) is not None]
    notes = {"True preference": "What people would think of each checkpoint’s fresh answers.",
             "Reward model’s score": "What PPO optimises. Where this climbs while gold falls, the reward is being gamed."}
    parts = [page.figure(f, f"{notes[f.title]} {f.desc.partition('. ')[2]}".strip()) for f in figures]
    return section("frontier", "What the reward cost", "Each checkpoint by how far it moved from where it started. RL spends more KL than "
                   "best-of-n for the same reward, so the two are not to be compared at equal KL.", grid(*parts))


def reward_section(page: Page, report: Report) -> str:
    panel = report["reward_model"]
    labels = panel.get("labels") if isinstance(panel.get("labels"), Mapping) else panel if "auc" in panel else {}
    parts = [_accuracy_panel(page, panel), _auc_panel(page, labels)]
    calibrations = [(labels.get("calibration"), 0.0, "ratings")]
    if labels is not panel:
        calibrations.insert(0, (panel.get("calibration"), 0.5, "pairs"))
    for key, title, unit in (("by_margin", "Accuracy by its own margin", "score difference"),
                             ("by_gold_gap", "Accuracy by how much better one answer is", "gold difference")):
        if rows := panel.get(key):
            dots = [Dot(" – ".join(numbers([row["low"], row["high"]], 2)), row["accuracy"].get("mean"), row["accuracy"].get("low"),
                        row["accuracy"].get("high"), "k-c1", f"({row.get('pairs', row['accuracy'].get('n'))})") for row in rows]
            parts.append(page.figure(charts.dot_plot(dots, title=title, desc=title, x_label=f"share right, by {unit} (pairs)",
                                                     rules=((0.5, "chance"),), row_height=28), "In brackets, how many pairs."))
    for calibration, low, what in calibrations:
        if calibration and calibration.get("bins"):
            note = _calibration_note(calibration)
            parts.append(page.figure(charts.reliability(calibration["bins"], title=f"Does it keep its word? ({what})", desc=note, low=low,
                                                        color="k-c1"), note))
    parts.append(_fresh_panel(page, report))
    return section("reward", "Can the reward model be trusted", "Held-out judgements, beside guesses that never read the answer and beside "
                   "the best that noisy labels allow.", grid(*(p for p in parts if p)))


def _accuracy_panel(page: Page, panel: Mapping[str, Any]) -> str:
    own, gold = read_estimate(panel, "accuracy"), read_estimate(panel, "accuracy_vs_gold")
    if not known(own["mean"]) and not known(gold["mean"]):
        return ""
    ceiling = read_estimate(panel, "bayes_ceiling")["mean"]
    dots = _beside_baselines(panel, ("reward model", own, "k-c1"), ("against gold", gold, "k-ppo"))
    gap = panel.get("gold_gap_min", 0.1)
    note = "Share of pairs ordered as the label orders them."
    if known(gold["mean"]):
        note += f" Against gold: pairs whose gold differs by {number(gap, 2)} or more."
    rules = ((0.5, "chance"), *(((ceiling, f"best possible on labels {percent(ceiling, 1)}"),) if known(ceiling) else ()))
    return page.figure(charts.dot_plot(dots, title="Pairs it orders right", desc=_values(dots), x_label="share right", rules=rules), note)


def _auc_panel(page: Page, labels: Mapping[str, Any]) -> str:
    area = read_estimate(labels, "auc")
    if not known(area["mean"]):
        return ""
    dots = _beside_baselines(labels, ("reward model", area, "k-c1"))
    balanced, positive = read_estimate(labels, "balanced_accuracy")["mean"], labels.get("positive_frac")
    note = "Chance that a well-rated answer scores above a badly rated one."
    if known(positive) and known(balanced):
        note += f" {percent(positive)} of ratings are good; balanced accuracy {number(balanced)}."
    return page.figure(charts.dot_plot(dots, title="Single answers it tells apart", desc=_values(dots), x_label="area under the ROC curve",
                                       rules=((0.5, "chance"),)), note)


def _beside_baselines(source: Mapping[str, Any], *own: tuple[str, Estimate, str]) -> list[Dot]:
    """The baselines' dots, then one's own."""
    baselines = {**(source.get("baselines") or {}), **{f"{k}_ci": v for k, v in (source.get("baselines_ci") or {}).items()}}
    rows = [("length alone", read_estimate(baselines, "length"), "k-base"),
            ("word counts", read_estimate(baselines, "bag_of_words"), "k-base"), *own]
    return [Dot(name, rate["mean"], rate["low"], rate["high"], color) for name, rate, color in rows if known(rate["mean"])]


def _values(dots: Sequence[Dot]) -> str:
    return "; ".join(f"{d.label} {number(d.mean)}" for d in dots)


def _fresh_panel(page: Page, report: Report) -> str:
    """Does the reward model still know good from bad as the policy moves away from what it was trained on?"""
    rows = [(row, read_estimate(row, "reward_accuracy_vs_gold")) for row in report["frontier"] if known(row.get("step"))]
    rows = [(row, rate) for row, rate in rows if known(rate["mean"])]
    if not rows:
        return ""
    rates = [rate for _, rate in rows]
    series = Series("", [row["step"] for row, _ in rows], [r["mean"] for r in rates], "k-c1", [r["low"] for r in rates],
                    [r["high"] for r in rates], dots=True)
    return page.figure(charts.line_chart(
        [series], title="On each checkpoint’s fresh answers", desc=f"from {number(rates[0]['mean'])} to {number(rates[-1]['mean'])}",
        x_label="PPO step", y_label="share of clear pairs ordered as gold does", rules=((0.5, "chance"),), include_y=(1.0,)),
        "A fall means the policy has left the ground the reward model learned on: time for fresh labels.")


def _calibration_note(calibration: Mapping[str, Any]) -> str:
    temperature = calibration.get("temperature")
    note = f"Expected calibration error {number(calibration.get('ece'), 2)}, Brier {number(calibration.get('brier'))}"
    if known(temperature):
        verdict = "over-confident" if temperature > 1.1 else "under-confident" if temperature < 0.9 else "about right"
        note += f", best temperature {number(temperature)} ({verdict})"
    return note + "."


def curves_section(page: Page, report: Report) -> str:
    parts = []
    for stage, rows in report["curves"].items():
        main, rest = panels(rows)
        if not main and not rest:
            continue
        parts.append(f"<h4>{e(stage)}</h4>")
        parts.append(grid(*(page.figure(p.figure(), p.how) for p in main)))
        if rest:
            parts.append(f'<details class="more"><summary>More of {e(stage)}: {len(rest)}</summary>'
                         f"{grid(*(page.figure(p.figure()) for p in rest))}</details>")
    lead = "Every logged metric. Long curves are smoothed; their raw course stands faintly behind."
    return section("curves", "How training went", lead, *parts)


def samples_section(page: Page, report: Report) -> str:
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for sample in report["samples"]:
        by_kind.setdefault(str(sample.get("kind") or ""), []).append(sample)
    parts = []
    for kind, rows in by_kind.items():
        parts.append((f"<h4>{e(kind)}</h4>" if kind else "") + "".join(_sample(row) for row in rows))
    lead = "The same held-out prompts, one sampled answer each, not picked." + (
        " The bar is the answer’s gold." if any(sample.get("gold") for sample in report["samples"]) else "")
    return section("samples", "What they say", lead, *parts)


def _sample(sample: Mapping[str, Any]) -> str:
    answers, golds = sample.get("answers") or {}, sample.get("gold") or {}
    columns = []
    for name, text in answers.items():
        gold = golds.get(name)
        score = f'<span class="score">{e(number(gold, 2))}</span>' if known(gold) else ""
        meter = f'<span class="meter"><i style="width:{100 * min(max(gold, 0), 1):.0f}%"></i></span>' if known(gold) else ""
        said = f'<p class="answer" dir="auto">{e(text)}</p>' if str(text or "").strip() else '<p class="empty">said nothing</p>'
        head = f"<h5><span>{e(name_of(name))}</span>{score}</h5>"
        columns.append(f'<div class="says {color_of(name, list(answers))}">{head}{meter}{said}</div>')
    return f'<article class="sample">{_prompt(sample.get("prompt"))}<div class="answers">{"".join(columns)}</div></article>'


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        turns = "".join(f'<span class="turn">{e(turn.get("role", ""))}</span>{e(turn.get("content", ""))}\n'
                        for turn in prompt if isinstance(turn, Mapping))
        return f'<p class="prompt" dir="auto">{turns}</p>'
    return f'<p class="prompt" dir="auto">{e(prompt)}</p>'


def made_section(page: Page, report: Report) -> str:
    """Where the time went, and what traces every number."""
    seconds, pending, parts = report["seconds"], missing(report), []
    if seconds or pending:
        desc = f"{len(seconds)} stages done" + (f", {len(pending)} not run yet" if pending else "")
        parts.append(page.figure(charts.timeline(seconds, title="Where the time went", desc=desc, pending=pending), "Wall-clock time."))
    if report["provenance"]:
        parts.append(f'<div class="card made"><h3>Provenance</h3>{_provenance(report["provenance"])}</div>')
    return section("made", "How it was made", "Enough to trace every number above and to run it again.", grid(*parts))


def _provenance(rows: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in rows.items() if not isinstance(v, (Mapping, list)) and "\n" not in str(v)}
    blocks = {k: v for k, v in rows.items() if k not in plain}
    parts = []
    if plain:
        parts.append("<dl>" + "".join(f"<dt>{e(k)}</dt><dd>{e(v)}</dd>" for k, v in plain.items()) + "</dl>")
    for key, value in blocks.items():
        shown = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        parts.append(f'<details class="more"><summary>{e(key)}</summary><pre>{e(shown)}</pre></details>')
    return "".join(parts)
