"""The one likelihood of everything people say of answers: pairs, rankings, ties, ratings, yes or no."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.algos.losses import binary_reward_loss, bradley_terry_loss, cumulative_link_loss, ranking_loss
from tutelage.models.batches import TokenBatch, pad_tokens
from tutelage.recipes.reward_model_setup import Item, Parts, RewardConfig
from tutelage.text.chat import Encoded

ROWS_PER_FORWARD = 32


def loss_of(parts: Parts, items: list[Item], num_items: int, cfg: RewardConfig) -> tuple[Tensor, dict[str, float]]:
    """Sum over the judgements of their loss, over num_items (those of the whole optimizer step), and how many pairs were right."""
    device = cfg.device
    scores = scores_of(parts, items, device)                                     # (P, K)
    weight = torch.tensor([it.judgement.weight for it in items], device=device)
    loss = parts.scales.prior(cfg.people.threshold_spread) * len(items) / (num_items * max(1, len(parts.train)))
    right, pairs = 0, 0
    for kind in ("pair", "ranking", "label", "rating"):
        at = [i for i, item in enumerate(items) if kind_of(item, cfg) == kind]
        if at:
            one, (good, all_of) = LOSSES[kind](parts, [items[i] for i in at], scores[at], weight[at], num_items, cfg)
            loss, right, pairs = loss + one, right + good, pairs + all_of
    return loss, {"right": right, "pairs": pairs}


def kind_of(item: Item, cfg: RewardConfig) -> str:
    """Which loss a judgement has."""
    if item.judgement.label is not None:
        return "label"
    if item.judgement.ranks is None:
        return "rating"
    as_target = cfg.algo.ties != "davidson" or (item.target is not None and cfg.algo.soft_targets)
    return "pair" if len(item.answers) == 2 and as_target else "ranking"


Judged = tuple[Tensor, tuple[int, int]]
"""A loss, and how many of how many pairs and labels the scores have right."""


def pair_loss(parts: Parts, items: list[Item], scores: Tensor, weight: Tensor, num_items: int, cfg: RewardConfig) -> Judged:
    """Bradley and Terry with soft targets and margins."""
    first, second, targets = zip(*(sides(item, cfg) for item in items), strict=True)
    rows = torch.arange(len(items), device=scores.device)
    chosen, rejected = scores[rows, torch.tensor(first)], scores[rows, torch.tensor(second)]
    target = torch.tensor(targets, device=scores.device)
    margin = torch.tensor([asked_margin(item, cfg) for item in items], device=scores.device)
    loss = bradley_terry_loss(chosen, rejected, target=target, margin=margin, weight=weight, num_examples=num_items)
    return loss, (int(((chosen > rejected) & (target > 0.5)).sum()), int((target > 0.5).sum()))


def group_loss(parts: Parts, items: list[Item], scores: Tensor, weight: Tensor, num_items: int, cfg: RewardConfig) -> Judged:
    """Rankings, each as one element of the batch; with Davidson's ties also pairs."""
    ranks = torch.full(scores.shape, -1, dtype=torch.long, device=scores.device)
    for row, item in enumerate(items):
        ranks[row, : len(item.answers)] = torch.tensor(item.judgement.ranks)
    margin = torch.tensor([asked_margin(item, cfg) if len(item.answers) == 2 else 0.0 for item in items], device=scores.device)
    log_nu = parts.scales.log_nu if cfg.algo.ties == "davidson" else 0.0
    loss = ranking_loss(scores, ranks, weight=weight, ties=cfg.algo.ties, davidson_log_nu=log_nu, margin=margin, num_examples=num_items)
    decided = (ranks[:, :, None] >= 0) & (ranks[:, :, None] < ranks[:, None, :])                     # (P, K, K): i ranked above j
    return loss, (int((decided & (scores[:, :, None] > scores[:, None, :])).sum()), int(decided.sum()))


def label_loss(parts: Parts, items: list[Item], scores: Tensor, weight: Tensor, num_items: int, cfg: RewardConfig) -> Judged:
    """Yes or no to a single answer."""
    labels = torch.tensor([float(bool(item.judgement.label)) for item in items], device=scores.device)
    loss = binary_reward_loss(scores[:, 0], labels, weight=weight, num_examples=num_items)
    return loss, (int(((scores[:, 0] > 0) == (labels > 0.5)).sum()), len(items))


def rating_loss(parts: Parts, items: list[Item], scores: Tensor, weight: Tensor, num_items: int, cfg: RewardConfig) -> Judged:
    """Steps of a scale, each labeler's own."""
    steps = parts.scales.steps(item.judgement.rating for item in items)
    thresholds = parts.scales.thresholds(item.judgement.labeler for item in items)
    return cumulative_link_loss(scores[:, 0], steps, thresholds, weight=weight, num_examples=num_items), (0, 0)


LOSSES = {"pair": pair_loss, "ranking": group_loss, "label": label_loss, "rating": rating_loss}


def sides(item: Item, cfg: RewardConfig) -> tuple[int, int, float]:
    """(column of the preferred answer, of the other, P(preferred)) of a two-answer judgement."""
    ranks = item.judgement.ranks or (0, 1)
    first, second = (0, 1) if ranks[0] <= ranks[1] else (1, 0)
    target = item.target if cfg.algo.soft_targets else None
    if target is None:
        return first, second, 0.5 if ranks[0] == ranks[1] else 1.0
    return first, second, target if first == 0 else 1.0 - target


def asked_margin(item: Item, cfg: RewardConfig) -> float:
    """Score margin that a two-answer judgement asks for: the row's own and that of the labeler's strength; none for a tie."""
    said = item.judgement
    if said.ranks is None or said.ranks[0] == said.ranks[1]:
        return 0.0
    return float(said.extra.get("margin", 0.0)) + cfg.algo.strength_margin * (said.strength or 0.0)


def scores_of(parts: Parts, items: list[Item], device: str) -> Tensor:
    """(P, K) scores, K the most answers of any item; nan where an item has fewer."""
    flat = read_answers(parts, [a for item in items for a in item.answers], device)                      # (sum of K,)
    widest = max(len(item.answers) for item in items)
    where = torch.tensor([(i, k) for i, item in enumerate(items) for k in range(len(item.answers))], device=flat.device)
    return torch.full((len(items), widest), float("nan"), device=flat.device).index_put((where[:, 0], where[:, 1]), flat)


def read_answers(parts: Parts, answers: list[Encoded], device: str) -> Tensor:
    """(n,) scores. One that comes up several times is read once, and those of like length share a forward pass: less padding."""
    unique = sorted({id(a): a for a in answers}.values(), key=lambda a: len(a.tokens))
    scores = []
    for start in range(0, len(unique), ROWS_PER_FORWARD):
        rows = [(a.tokens, a.response_mask) for a in unique[start : start + ROWS_PER_FORWARD]]
        batch: TokenBatch = pad_tokens(rows, parts.tokenizer.pad_token_id, device)
        scores.append(parts.reward_model.score(batch.tokens, batch.attention_mask))
    place = {id(a): i for i, a in enumerate(unique)}
    return torch.cat(scores)[torch.tensor([place[id(a)] for a in answers], device=device)]
