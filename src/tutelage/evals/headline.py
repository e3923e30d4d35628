"""What the numbers say, in sentences: one headline, a few findings, and a handful of figures. Written from the data alone.

It says plainly when PPO did not help, and says "cannot be told apart" where the intervals do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from tutelage.base.stats import Estimate, estimate
from tutelage.evals.frontier import Peak, find_peak
from tutelage.evals.svg import duration, number, numbers, percent

NAMES = {"base": "base", "prompted": "base, prompted", "sft": "SFT", "best_of_n": "best of n", "ppo": "PPO", "ppo_ptx": "PPO-ptx"}
POLICIES = ("ppo", "ppo_ptx")
STYLE_DRIFT = 1.25
"""Growth of the mean answer that is worth a sentence: length is the first thing a hacked reward buys (rlhf fact 22)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure to remember."""

    value: str
    label: str
    note: str = ""


def name_of(model: str) -> str:
    return NAMES.get(model, model)


def known(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def read_estimate(row: Mapping[str, Any], key: str) -> Estimate:
    """row[key], an estimate or a number whose interval may lie in row[key + "_ci"]; nan for what is missing."""
    value, interval = row.get(key), row.get(f"{key}_ci")
    source = value if isinstance(value, Mapping) else interval if isinstance(interval, Mapping) else {}
    mean = source.get("mean") if isinstance(value, Mapping) or not known(value) else value
    mean, low, high = (v if known(v) else math.nan for v in (mean, source.get("low"), source.get("high")))
    count = source.get("n")
    return estimate(mean, low, high, int(count) if known(count) else 0)


def judged_by(report: Mapping[str, Any]) -> str:
    """ "gold" where any model has one, else "proxy"."""
    return "gold" if any(known(read_estimate(row, "gold")["mean"]) for row in report["models"].values()) else "proxy"


def difference(models: Mapping[str, Any], name: str, other: str, key: str) -> Estimate:
    """models[name] - models[other]: the paired estimate under "<key>_vs_<other>" where given, else from both means' intervals."""
    if isinstance(models[name].get(f"{key}_vs_{other}"), Mapping):
        return read_estimate(models[name], f"{key}_vs_{other}")
    a, b = read_estimate(models[name], key), read_estimate(models[other], key)
    mean = a["mean"] - b["mean"]
    return estimate(mean, mean - math.hypot(a["mean"] - a["low"], b["high"] - b["mean"]),
                    mean + math.hypot(a["high"] - a["mean"], b["mean"] - b["low"]), min(a["n"], b["n"]))


def gap_closed(models: Mapping[str, Any], name: str = "ppo") -> float:
    """Share of the distance from SFT's gold to a perfect 1 that the model covers; nan where unknown."""
    if name not in models or "sft" not in models:
        return math.nan
    sft, own = read_estimate(models["sft"], "gold")["mean"], read_estimate(models[name], "gold")["mean"]
    return (own - sft) / (1 - sft) if sft < 1 else math.nan


def gold_peak(report: Mapping[str, Any]) -> Peak | None:
    """Whether gold has turned along the frontier."""
    return find_peak([read_estimate(row, "gold") for row in report["frontier"]])


def passed(report: Mapping[str, Any]) -> bool:
    peak = gold_peak(report)
    return peak is not None and peak.passed is True


def headline(report: Mapping[str, Any]) -> str:
    """One sentence with the numbers that matter."""
    models, key = report["models"], judged_by(report)
    policy = next((p for p in POLICIES if p in models and known(read_estimate(models[p], key)["mean"])), None)
    if policy and "sft" in models and known(read_estimate(models["sft"], key)["mean"]):
        return _policy_against_sft(models, policy, key)
    scored = {n: read_estimate(row, key) for n, row in models.items() if known(read_estimate(row, key)["mean"])}
    if scored:
        best = max(scored, key=lambda n: scored[n]["mean"])
        return f"{name_of(best)} answers best so far, at a {_what(key)} of {interval(scored[best])}; PPO has not been measured yet."
    if done := list(report["seconds"]):
        return f"Nothing is measured yet; {', '.join(done)} took {duration(sum(report['seconds'].values()))}."
    return "Nothing has run yet."


def _policy_against_sft(models: Mapping[str, Any], policy: str, key: str) -> str:
    change, own, sft = difference(models, policy, "sft", key), read_estimate(models[policy], key), read_estimate(models["sft"], key)
    name, what, closed = name_of(policy), _what(key), gap_closed(models, policy)
    kl = read_estimate(models[policy], "kl")["mean"]
    spent = f" for {number(kl, 2)} nats of KL" if known(kl) else ""
    if not known(change["low"]) or not known(change["high"]):
        direction = "above" if change["mean"] > 0 else "below" if change["mean"] < 0 else "level with"
        return (f"{name} ends {direction} SFT, at a {what} of {number(own['mean'])} against {number(sft['mean'])}{spent}; "
                "without intervals nobody can say whether that is chance.")
    if change["low"] <= 0 <= change["high"]:
        return f"{name} cannot be told apart from SFT: {what} {interval(own)} against {interval(sft)}{spent}."
    if change["high"] < 0:
        return (f"{name} made the answers worse: {what} fell from {number(sft['mean'])} to {number(own['mean'])} "
                f"({interval(change)}){spent}.")
    if key == "gold" and known(closed) and 0 < closed <= 1:
        return (f"{name} closes {percent(closed)} of the gap that SFT leaves: gold rises from {number(sft['mean'])} to "
                f"{number(own['mean'])}{spent}.")
    return (f"{name} raises the {what} from {number(sft['mean'])} to {number(own['mean'])}{spent}"
            f"{'' if key == 'gold' else '; whether people agree is not known here'}.")


def findings(report: Mapping[str, Any]) -> list[str]:
    """What else a reader should know, good or bad, most important first."""
    models, key = report["models"], judged_by(report)
    policy = next((p for p in POLICIES if p in models), None)
    turned = _over_optimised(report)
    found = turned if passed(report) else []
    if policy:
        found += _wins(models, policy) + _against_best_of_n(models, policy, key) + _tax(models) + _length(models, policy)
    return found + _reward_model(report["reward_model"]) + ([] if passed(report) else turned)


def _over_optimised(report: Mapping[str, Any]) -> list[str]:
    peak = gold_peak(report)
    if peak is None or len(report["frontier"]) < 3:
        return []
    best = report["frontier"][peak.index]
    if peak.passed:
        return [f"The peak is passed: gold was best at step {best.get('step')} and has since lost {interval(peak.drop)}. "
                "What the reward model still rewards, the true preference no longer does."]
    return ["Gold did not turn: no significant fall after its best checkpoint."] if peak.passed is False else []


def _wins(models: Mapping[str, Any], policy: str) -> list[str]:
    win = read_estimate(models[policy], "win_rate_vs_sft")
    judge = models[policy].get("win_rate_by", judged_by({"models": models}))
    judge = "gold" if judge == "gold" else "the reward model"
    return [f"{name_of(policy)} wins against SFT on {_share(win)} of held-out prompts, as {judge} judges."] if known(win["mean"]) else []


def _against_best_of_n(models: Mapping[str, Any], policy: str, key: str) -> list[str]:
    if "best_of_n" not in models:
        return []
    change = difference(models, policy, "best_of_n", key)
    if not known(change["low"]):
        return []
    verdict = "beats" if change["low"] > 0 else "loses to" if change["high"] < 0 else "cannot be told apart from"
    return [f"{name_of(policy)} {verdict} best-of-n sampling from SFT ({_what(key)} {signed(change)})."]


def _tax(models: Mapping[str, Any]) -> list[str]:
    bits = {n: read_estimate(row, "bits_per_byte")["mean"] for n, row in models.items()}
    if not known(bits.get("sft")):
        return []
    taxes = [f"{name_of(n)} {_plus(bits[n] - bits['sft'])}" for n in POLICIES if known(bits.get(n))]
    return [f"Alignment tax on held-out text, bits per byte against SFT: {', '.join(taxes)}."] if taxes else []


def _length(models: Mapping[str, Any], policy: str) -> list[str]:
    if "sft" not in models:
        return []
    before, after = (read_estimate(models[n], "length")["mean"] for n in ("sft", policy))
    if not (known(before) and known(after) and before > 0 and after > 0):
        return []
    if 1 / STYLE_DRIFT < after / before < STYLE_DRIFT:
        return []
    grew = "grew" if after > before else "shrank"
    return [f"Answers {grew} from {number(before)} to {number(after)} tokens; check that length is not what is rewarded."]


def _reward_model(panel: Mapping[str, Any]) -> list[str]:
    rate, ceiling = read_estimate(panel, "accuracy"), read_estimate(panel, "bayes_ceiling")["mean"]
    found = []
    if known(rate["mean"]):
        parts = [f"The reward model agrees with {_share(rate)} of held-out labels"]
        if known(ceiling) and ceiling > 0:
            parts.append(f"{percent(rate['mean'] / ceiling)} of the {percent(ceiling, 1)} that anyone could reach")
        found.append("; ".join([*parts, *_against_words(panel, lambda x: percent(x, 1))]) + _no_better(panel, rate))
    labels = panel.get("labels")
    ratings = labels if isinstance(labels, Mapping) else panel
    area = read_estimate(ratings, "auc")
    if known(area["mean"]):
        parts = [f"On single ratings its AUC is {interval(area)}", *_against_words(ratings, number)]
        found.append("; ".join(parts) + _no_better(ratings, area))
    return found


def _against_words(panel: Mapping[str, Any], shown: Callable[[float], str]) -> list[str]:
    words, above = read_estimate(panel.get("baselines") or {}, "bag_of_words")["mean"], read_estimate(panel, "above_bag_of_words")
    lead = f" (difference {signed(above)})" if _bounded(above) else ""
    return [f"counting words reaches {shown(words)}{lead}"] if known(words) else []


def _no_better(panel: Mapping[str, Any], own: Estimate) -> str:
    """A warning unless the lead over counting words is beyond chance: by the paired difference where given, else by one interval."""
    words, above = read_estimate(panel.get("baselines") or {}, "bag_of_words")["mean"], read_estimate(panel, "above_bag_of_words")
    if not known(words):
        return "."
    low = above["low"] if known(above["low"]) else own["low"] - words
    return ". It does not beat counting words." if known(low) and low <= 0 else "."


def tiles(report: Mapping[str, Any]) -> list[Tile]:
    """The figures under the headline, those that are known."""
    models, key, panel = report["models"], judged_by(report), report["reward_model"]
    policy = next((p for p in POLICIES if p in models), None)
    shown: list[Tile] = []
    if policy:
        closed, change = gap_closed(models, policy), difference(models, policy, "sft", key) if "sft" in models else None
        if known(closed) and closed > 0:
            shown.append(Tile(percent(closed), "of SFT's gap to 1 closed", f"gold {signed(change)}" if change else ""))
        elif change and known(change["mean"]):
            shown.append(Tile(_plus(change["mean"]), f"{_what(key)}, against SFT", _bounds(change)))
        win, kl = read_estimate(models[policy], "win_rate_vs_sft"), read_estimate(models[policy], "kl")
        if known(win["mean"]):
            shown.append(Tile(percent(win["mean"]), "won against SFT", _percents(win)))
        if known(kl["mean"]):
            shown.append(Tile(number(kl["mean"], 2), "nats of KL per answer", _bounds(kl)))
    accuracy, area = read_estimate(panel, "accuracy"), read_estimate(panel.get("labels") or panel, "auc")
    if known(accuracy["mean"]):
        shown.append(Tile(percent(accuracy["mean"], 1), "reward accuracy on labels", _percents(accuracy)))
    elif known(area["mean"]):
        shown.append(Tile(number(area["mean"]), "reward AUC on ratings", _bounds(area)))
    if stages := len(report["seconds"]):
        shown.append(Tile(duration(sum(report["seconds"].values())), "spent in all", f"{stages} stage{'s' * (stages > 1)}"))
    return shown


def interval(value: Estimate) -> str:
    """ "0.82 [0.80, 0.84]", or the bare number."""
    mean, low, high = numbers([value["mean"], value["low"], value["high"]])
    return f"{mean} [{low}, {high}]" if _bounded(value) else number(value["mean"])


def signed(value: Estimate) -> str:
    return ("+" if value["mean"] > 0 else "") + interval(value)


def _bounds(value: Estimate) -> str:
    return interval(value).partition(" ")[2]


def _bounded(value: Estimate) -> bool:
    return known(value["low"]) and known(value["high"])


def _percents(value: Estimate) -> str:
    return f"[{100 * value['low']:.1f}, {100 * value['high']:.1f}] %" if _bounded(value) else ""


def _share(value: Estimate) -> str:
    return f"{percent(value['mean'], 1)} {_percents(value)[:-2]}".strip()


def _plus(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _what(key: str) -> str:
    return "gold" if key == "gold" else "reward model's score"


def missing(report: Mapping[str, Any]) -> Sequence[str]:
    """Planned stages without a time: not run, or not finished."""
    return [stage for stage in report["stages"] if stage not in report["seconds"]]
