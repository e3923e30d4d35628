"""What a reward model makes of held-out judgements: accuracy and calibration, and how far it agrees with whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from tutelage.algos.losses import cumulative_link_loss
from tutelage.base.files import atomic_write_text
from tutelage.base.snapshot import REPORT
from tutelage.base.split import split_key
from tutelage.base.stats import mean_ci
from tutelage.evals.people import concordance, people_report
from tutelage.evals.report import strict
from tutelage.evals.reward_report import label_report, pair_report
from tutelage.evals.worth import labels_worth
from tutelage.recipes.reward_model_setup import Item, Parts, RewardConfig, is_held_out


def held_out_report(parts: Parts, cfg: RewardConfig, bt_scale: float, held: list[list[float]]) -> dict[str, Any]:
    """Accuracy, calibration and baselines on the held-out judgements, given their scores; pairs and labels apart."""

    def labels_of(items: list[Item], scores: list[list[float]]) -> list[dict[str, Any]]:
        return [{"prompt": key_of(it, cfg), "text": it.judgement.responses[0].text, "label": bool(it.judgement.label), "score": own[0]}
                for it, own in zip(items, scores, strict=True) if it.judgement.label is not None]

    unread = [[0.0] * len(item.answers) for item in parts.train]     # baselines learn from the training texts alone
    report: dict[str, Any] = {}
    if held_pairs := pair_rows(parts.held_out, held, cfg):
        learnt = pair_rows(parts.train, unread, cfg)
        report["pairs"] = pair_report(held_pairs, learnt, scale=bt_scale) | {"ties": tied_pairs(parts.held_out)}
    if held_labels := labels_of(parts.held_out, held):
        report["labels"] = label_report(held_labels, labels_of(parts.train, unread), scale=bt_scale)
    return report


def write_people_report(folder: Path, parts: Parts, cfg: RewardConfig, held: list[list[float]]) -> Path:
    """report/reward.json of a run: whom the model agrees with, and what it learnt of their scales."""
    report = {"people": people_report(list(verdicts(parts, cfg, held))), "ratings": rating_report(parts, cfg, held),
              "scales": parts.scales.told(), "reliability": parts.reliability.report()}
    if cfg.eval.labels_worth:
        unread = [[0.0] * len(item.answers) for item in parts.train]
        report["labels_worth"] = labels_worth(pair_rows(parts.train, unread, cfg), pair_rows(parts.held_out, held, cfg), seed=cfg.seed)
    atomic_write_text(folder / REPORT, json.dumps(strict(report), indent=1, ensure_ascii=False) + "\n")
    return folder / REPORT


def verdicts(parts: Parts, cfg: RewardConfig, held: list[list[float]]) -> Iterator[dict[str, Any]]:
    """Rows of tutelage.evals.people: for each held-out judgement, what of it the model gets right.

    A pair is right when the better answer scores higher. A yes or no is right when the model holds it more likely. A rating is right when
    the score lies on its side of the middle of the labeler's scale; one in the middle, like a tie, has no right side.
    """
    for item, scores in zip(parts.held_out, held, strict=True):
        said = item.judgement
        about = {"prompt": key_of(item, cfg), "labeler": said.labeler, "group": said.group, "weight": said.weight,
                 "kind": "edit" if said.edit is not None else said.kind, "held_out": is_held_out(said, cfg)}
        if said.ranks is not None:
            yield from (about | {"right": 0.5 * (1 + (scores[i] > scores[j]) - (scores[i] < scores[j]))} for i, j in decided(item))
        elif said.label is not None:
            yield about | {"right": float((parts.scales.log_odds(scores[0]) > 0) == said.label)}
        elif (side := parts.scales.side(said.rating)) != 0:
            yield about | {"right": float((parts.scales.log_odds(scores[0]) > parts.scales.middle(said.labeler)) == (side > 0))}


def rating_report(parts: Parts, cfg: RewardConfig, held: list[list[float]]) -> dict[str, Any] | None:
    """Held-out ratings: concordance, and log-loss in nats beside that of foretelling the same shares for every answer; None without any."""
    found = [(item.judgement, scores[0]) for item, scores in zip(parts.held_out, held, strict=True) if item.judgement.rating is not None]
    if not found:
        return None
    said, prompts = [j for j, _ in found], [key_of(it, cfg) for it in parts.held_out if it.judgement.rating is not None]
    scores, scales = torch.tensor([parts.scales.log_odds(s) for _, s in found]), parts.scales
    steps, thresholds = scales.steps(j.rating for j in said).cpu(), scales.thresholds(j.labeler for j in said).detach().cpu()
    losses = [cumulative_link_loss(s[None], r[None], t[None]).item() for s, r, t in zip(scores, steps, thresholds, strict=True)]
    seen = scales.steps(it.judgement.rating for it in parts.train if it.judgement.rating is not None).cpu()
    shares = (torch.bincount(seen, minlength=len(scales.levels)) + 0.5) / (len(seen) + 0.5 * len(scales.levels))
    return {"concordance": concordance(scores.numpy(), steps.numpy(), raters=[j.labeler for j in said], prompts=prompts),
            "log_loss": mean_ci(losses, groups=prompts), "log_loss_of_shares": mean_ci((-shares[steps].log()).numpy(), groups=prompts)}


def pair_rows(items: list[Item], scores: list[list[float]], cfg: RewardConfig) -> list[dict[str, Any]]:
    """Rows of evals.reward_report and evals.worth: every pair that the judgements decide."""
    rows = []
    for number, (item, own) in enumerate(zip(items, scores, strict=True)):
        texts, said = [r.text for r in item.judgement.responses], item.judgement
        about = {"prompt": key_of(item, cfg), "weight": said.weight, "labeler": said.labeler, "judgement": number}
        rows += [about | {"chosen": texts[i], "rejected": texts[j], "chosen_score": own[i], "rejected_score": own[j]}
                 for i, j in decided(item)]
    return rows


def decided(item: Item) -> list[tuple[int, int]]:
    """(better, worse) of every pair of answers that the judgement tells apart."""
    ranks = item.judgement.ranks or ()
    return [(i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]]


def tied_pairs(items: list[Item]) -> int:
    """Pairs of answers that a judgement ranks alike."""
    return sum(one == other for item in items for one, other in combinations(item.judgement.ranks or (), 2))


def key_of(item: Item, cfg: RewardConfig) -> str:
    """What intervals are drawn by."""
    return split_key(item.judgement.prompt, by=cfg.data.split_by)
