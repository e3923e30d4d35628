"""What an evaluation is asked for, and how its numbers are taken. The order of things is in evaluate.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.files import read_json_object
from tutelage.base.records import Prompt, messages_from_json, prompt_text
from tutelage.base.split import split_of, split_sides
from tutelage.base.stats import mean_ci, paired_difference, rate_ci, win_rate
from tutelage.evals.frontier import bon_kl
from tutelage.evals.likelihood import likelihood
from tutelage.evals.reward_report import bayes_ceiling, gold_report
from tutelage.evals.words import WordScorer, distinct_n
from tutelage.models.batches import PackedBatch, pad_tokens
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, open_policy, packed_logprobs, resolve_model, token_logprobs
from tutelage.rewards.base import ModelReward, last_user_text
from tutelage.rollout import InProcessEngine, Sampling
from tutelage.rollout.batch import Rollout
from tutelage.text.chat import encode_example, encode_prompt, encode_texts, stop_tokens
from tutelage.text.lines import Rejected
from tutelage.text.packing import pack_texts
from tutelage.text.readers import expand_files, read_demonstrations, read_prompts, read_sources, read_texts
from tutelage.text.tables import kind_of, read_rows
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.audits import check_packing
from tutelage.train.run import checkpoints_of
from tutelage.train.sections import DataSection, Names

REMAKE = "restore that file, or make the run again"
Gold = Callable[[str, str], float]
Preference = Callable[[str, str, str], tuple[float, float]]


class ModelEntry(Section):
    """One column of the comparison."""

    path: str
    """Model folder or run directory."""
    plain: bool = False
    """Prompt in plain text ("Question: … Answer:") instead of the chat template, for a model that never saw the template."""
    examples: int = Field(0, ge=0)
    """Demonstrations put before a plain prompt."""
    best_of: int = Field(1, ge=1)
    """Sample so many answers and keep the one the reward model likes best."""


class RolloutSection(Section):
    """How answers are drawn."""

    temperature: float = Field(1.0, ge=0)
    """Logits are divided by it."""
    max_tokens: int = Field(64, ge=1)
    """Longest response, tokens."""
    batch_size: int = Field(256, ge=1)
    """Sequences decoded side by side."""


class FrontierSection(Section):
    """Reward against the square root of KL, over the checkpoints of a run."""

    run: str | None = None
    """PPO run whose checkpoints are sampled; None draws no frontier."""
    max_prompts: int = Field(96, ge=1)
    """Held-out prompts per checkpoint; two answers each."""


class EvaluateConfig(RunConfig):
    """Models side by side on held-out prompts, and one report."""

    models: dict[str, ModelEntry]
    """Name -> model; `sft` (or else the first) is the reference for KL and win rates."""
    reward: str
    """Reward model folder or run directory."""
    data: DataSection
    """Prompts nobody trained on."""
    all_prompts: bool = False
    """Use every prompt of the files (they hold held-out prompts only) instead of the held-out side of the split."""
    max_prompts: int = Field(200, ge=1)
    """Held-out prompts to answer."""
    text_files: Names = []
    """Text whose held-out side gives bits per byte (the alignment tax)."""
    dialogues: DataSection | None = None
    """Conversations whose held-out side gives the perplexity of the assistant's turns; mask_where leaves turns out."""
    max_dialogues: int = Field(300, ge=1)
    """Held-out conversations for that, at most."""
    second_opinion: DataSection | None = None
    """Single rated answers that the reward model did not learn from; what their words teach judges the models' answers too."""
    demonstrations: Names = []
    """Files the examples of a prompted model come from."""
    rollout: RolloutSection = RolloutSection()
    frontier: FrontierSection = FrontierSection()
    curves: dict[str, str] = {}
    """Stage -> run directory whose metrics the report draws; empty draws those of the models and the reward model that are runs."""
    title: str = "Report"
    """Heading of the report."""


@dataclass
class Answers:
    """What one model said: one answer per prompt, its KL to the reference in nats, its score and length."""

    texts: list[str]
    kl: list[float]
    scores: list[float]
    tokens: list[int]
    gold: list[float] = field(default_factory=list)
    by_words: list[float] = field(default_factory=list)


@dataclass
class Judges:
    """What answers are judged by: the reward model, and where the true preference is known, that too."""

    reward: ScoredModel
    reward_tokenizer: Any
    gold: Gold | None
    preference: Preference | None
    words: WordScorer | None = None
    """A second opinion: counts words, learnt from other people's ratings."""


def held_out_prompts(cfg: EvaluateConfig) -> list[Prompt]:
    """At most max_prompts prompts of the held-out side, drawn by split_seed. Raises: DataError when there are none."""
    data = cfg.data
    found = read_sources(read_prompts, data.each()).rows
    rows = list(dict.fromkeys(found))
    if not cfg.all_prompts:
        rows = [p for p, side in zip(rows, split_sides(rows, **data.split_options(), keep_near=True), strict=True) if side == "eval"]
    if not rows:
        raise DataError(f"none of the {len(found)} prompts of {', '.join(data.all_files())} is held out",
                        hint="raise data.eval_frac, or all_prompts=true for files of held-out prompts only")
    order = np.random.default_rng(data.split_seed).permutation(len(rows))        # files are often sorted by kind
    return [rows[i] for i in order[: cfg.max_prompts]]


def answer(cfg: EvaluateConfig, entry: ModelEntry, folder: Path, prompts: list[Prompt], ref_policy: Any, judges: Judges) -> Answers:
    """One answer per prompt (the best of several), with KL to the reference estimated on the answers themselves; none without it."""
    tokenizer = open_tokenizer(folder)
    policy = open_policy(folder, device=cfg.device, tokenizer=tokenizer)
    chat_tokens = [encode_prompt(tokenizer, p) for p in prompts]
    own_tokens = [encode_prompt(tokenizer, plain_prompt(cfg, entry, p)) for p in prompts] if entry.plain else chat_tokens
    sampling = Sampling(temperature=cfg.rollout.temperature, max_tokens=cfg.rollout.max_tokens, stop_tokens=stop_tokens(tokenizer),
                        seed=cfg.seed)
    n = entry.best_of
    asked, asked_tokens = [p for p in prompts for _ in range(n)], [t for t in own_tokens for _ in range(n)]
    completions = InProcessEngine(policy, tokenizer.pad_token_id, max_batch=cfg.rollout.batch_size).generate(asked_tokens, sampling)
    texts = [str(tokenizer.decode(list(c.tokens), skip_special_tokens=True)) for c in completions]
    if entry.plain:  # a base model goes on to the next question: its answer is one paragraph
        texts = [next((line for line in t.split("\n") if line.strip()), "") for t in texts]
    texts = [t.strip() for t in texts]
    reward = ModelReward(judges.reward, judges.reward_tokenizer, tokenizer)
    if entry.plain:
        scores = reward.score_texts(asked, texts)
    else:                                                            # as PPO scores: an answer cut off gets no EOS it did not write
        scores = reward(asked, Rollout.collate(asked_tokens, completions, tokenizer.pad_token_id).to(cfg.device))
    scores = scores.view(len(prompts), n)
    best = scores.argmax(1)
    kept = [i * n + int(best[i]) for i in range(len(prompts))]
    spoken = [list(completions[i].tokens) for i in kept]
    if entry.plain:
        spoken = [tokenizer(texts[i], add_special_tokens=False)["input_ids"] or [tokenizer.eos_token_id] for i in kept]
    kl = []
    if ref_policy is not None:                                       # KL(best of n || ref) <= ln n - (n-1)/n + E[log p - log p_ref]
        kl = (bon_kl(n) + sum_logprobs(policy, own_tokens, spoken, cfg) - sum_logprobs(ref_policy, chat_tokens, spoken, cfg)).tolist()
    out = Answers([texts[i] for i in kept], kl, scores.flatten()[kept].tolist(), [len(s) for s in spoken])
    if judges.gold is not None:
        out.gold = [judges.gold(last_user_text(p), t) for p, t in zip(prompts, out.texts, strict=True)]
    if judges.words is not None:
        out.by_words = judges.words.score(out.texts).tolist()
    return out


def plain_prompt(cfg: EvaluateConfig, entry: ModelEntry, prompt: Prompt) -> str:
    """The prompt as a page of questions and answers, which a base model has seen on the web."""
    shown = ""
    if entry.examples:
        for row in read_demonstrations(cfg.demonstrations, limit=entry.examples).rows:
            shown += f"Question: {last_user_text(row.prompt)}\nAnswer: {row.response}\n\n"
        return f"{shown}Question: {last_user_text(prompt)}\nAnswer:"
    return last_user_text(prompt) + "\n"


@torch.no_grad()
def sum_logprobs(
    policy: Any, prompt_tokens: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], cfg: EvaluateConfig
) -> torch.Tensor:
    """(B,) log-probability of each response given its prompt, nats, at the sampling temperature."""
    totals = []
    for start in range(0, len(responses), 64):
        rows = [
            ([*p, *r], [False] * len(p) + [True] * len(r))
            for p, r in zip(prompt_tokens[start : start + 64], responses[start : start + 64], strict=True)
        ]
        batch = pad_tokens(rows, 0, cfg.device)
        logprobs = token_logprobs(policy, batch.tokens, batch.attention_mask, temperature=cfg.rollout.temperature or 1.0)
        totals.append(logprobs.where(batch.response_mask, 0.0).sum(1).cpu())
    return torch.cat(totals)


def held_out_texts(cfg: EvaluateConfig) -> list[str]:
    """The documents of `text_files` that pretraining with the same split held out."""
    data = cfg.data
    return [t for t in read_texts(cfg.text_files).rows
            if split_of(t, eval_frac=data.eval_frac, seed=data.split_seed, by=data.split_by) == "eval"]


@torch.no_grad()
def bits_per_byte(cfg: EvaluateConfig, folder: Path, *, max_texts: int = 200) -> float | None:
    """Bits per UTF-8 byte of held-out pretraining text: what alignment cost (the alignment tax)."""
    texts = held_out_texts(cfg)[:max_texts] if cfg.text_files else []
    if not texts:
        return None
    tokenizer = open_tokenizer(folder)
    policy = open_policy(folder, device=cfg.device, tokenizer=tokenizer)
    packed = PackedBatch.stack(
        pack_texts(
            encode_texts(tokenizer, texts), min(256, context_length(policy) or 256), pad_token_id=tokenizer.pad_token_id
        ),
        cfg.device,
    )
    check_packing(partial(packed_logprobs, policy), packed)
    nats = 0.0
    for start in range(0, len(packed), 16):
        batch = packed.select(slice(start, start + 16))
        nats -= packed_logprobs(policy, batch)[batch.trained_mask].sum().item()
    return nats / math.log(2) / sum(len(t.encode()) for t in texts)


def dialogue_likelihood(cfg: EvaluateConfig, folder: Path) -> dict[str, Any]:
    """Perplexity and bits per byte of the assistant's turns in held-out conversations; {} when none are asked for."""
    if cfg.dialogues is None:
        return {}
    data, tokenizer = cfg.dialogues, open_tokenizer(folder)
    policy = open_policy(folder, device=cfg.device, tokenizer=tokenizer)
    found = read_sources(read_demonstrations, data.each()).rows
    sides = split_sides([row.prompt for row in found], **data.split_options(), keep_near=True)
    rows = [row for row, side in zip(found, sides, strict=True) if side == "eval"][: cfg.max_dialogues]
    limit = context_length(policy) or 10**9
    examples = [encode_example(tokenizer, row.prompt, row.response, train_on="assistant_turns", limit=limit) for row in rows]
    said = likelihood(policy, tokenizer, [e for e in examples if len(e.tokens) <= limit])
    return {"perplexity": said["perplexity"], "dialogue_bits_per_byte": said["bits_per_byte"], "dialogue_tokens": said["tokens"]}


def summary(own: Answers, sft: Answers, path: str, bits: float | None, prompts: list[Prompt]) -> dict[str, Any]:
    """One model's row of the report; means over held-out prompts, each with its 95% interval."""
    judged, judged_sft = (own.gold, sft.gold) if own.gold else (own.scores, sft.scores)
    row: dict[str, Any] = {
        "path": path,
        "proxy": float(np.mean(own.scores)),
        "proxy_ci": mean_ci(own.scores),
        "kl": float(np.mean(own.kl)) if own.kl else None,
        "kl_ci": mean_ci(own.kl),
        "length": float(np.mean(own.tokens)),
        "length_ci": mean_ci(own.tokens),
        "distinct_1": distinct_n(own.texts, 1),
        "distinct_2": distinct_n(own.texts, 2),
        "bits_per_byte": bits,
        "win_rate_vs_sft": win_rate(judged, judged_sft),
        "win_rate_by": "gold" if own.gold else "proxy",
        "win_rate_by_words": win_rate(own.by_words, sft.by_words) if own.by_words else None,
        "prompts": len(prompts),
    }
    if not own.gold:
        return row | {"gold": None}
    return row | {"gold": float(np.mean(own.gold)), "gold_ci": mean_ci(own.gold), "gold_vs_sft": paired_difference(own.gold, sft.gold)}


def against_gold(scores: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    """How often the scores order answers as gold does, over all pairs of answers to a prompt. scores, gold: (P, K)."""
    a, b = np.triu_indices(scores.shape[1], k=1)
    prompts = np.repeat(np.arange(len(scores)), len(a)).tolist()
    return gold_report((scores[:, a] - scores[:, b]).ravel(), (gold[:, a] - gold[:, b]).ravel(), prompts)


def against_panel(scores: np.ndarray, texts: list[list[str]], prompts: list[Prompt], preference: Preference) -> dict[str, Any]:
    """What the best predictor and the scores can expect to get right of the panel's choices between each prompt's answers.

    scores: (P, K). Exact in the labels, whose probabilities are known; sampled in the answers. A tie has no right answer, so a pair
    counts by its chance of not being one.
    """
    pairs = []
    for number, (prompt, row, answers) in enumerate(zip(prompts, scores, texts, strict=True)):
        for a, b in combinations(range(len(answers)), 2):
            wins, losses = preference(last_user_text(prompt), answers[a], answers[b])
            p = wins / (wins + losses)
            pairs.append((number, p, wins + losses, p if row[a] > row[b] else 1 - p if row[a] < row[b] else 0.5))
    groups, preferred, decided, right = zip(*pairs, strict=True)
    return {"bayes_ceiling": bayes_ceiling(preferred, weights=decided),
            "expected_panel_accuracy": rate_ci(right, weights=decided, groups=groups)}


def fresh_answers(cfg: EvaluateConfig, folder: Path, prompts: list[Prompt], ref_policy: Any, judges: Judges, count: int) -> dict[str, Any]:
    """`count` fresh answers per prompt of one model: texts, and scores, KL and gold as (P, count) arrays."""
    told = answer(cfg, ModelEntry(path=str(folder)), folder, [p for p in prompts for _ in range(count)], ref_policy, judges)
    shape = (len(prompts), count)
    return {
        "texts": [told.texts[count * i : count * (i + 1)] for i in range(len(prompts))],
        "scores": np.reshape(told.scores, shape),
        "kl": np.reshape(told.kl, shape),
        "gold": np.reshape(told.gold, shape) if told.gold else None,
    }


def reward_summary(
    cfg: EvaluateConfig, folder: Path, sft: Answers, prompts: list[Prompt], judges: Judges, sft_folder: Path, ref_policy: Any
) -> dict[str, Any]:
    """The reward model's own held-out report, and against gold and the Bayes ceiling on fresh samples of the SFT model."""
    result_file = next((p / "result.json" for p in folder.parents if (p / "result.json").exists()), None)
    trained = read_json_object(result_file, hint=REMAKE) if result_file else {}
    out: dict[str, Any] = {
        "path": str(folder),
        **trained.get("pairs", {}),
        **({"labels": trained["labels"]} if "labels" in trained else {}),
    }
    if judges.gold is not None:
        fresh = fresh_answers(cfg, sft_folder, prompts, ref_policy, judges, 4)
        out |= against_gold(fresh["scores"], fresh["gold"])
        if judges.preference is not None:
            out |= against_panel(fresh["scores"], fresh["texts"], prompts, judges.preference)
    return out


def frontier(cfg: EvaluateConfig, prompts: list[Prompt], ref_policy: Any, judges: Judges) -> list[dict[str, Any]]:
    """Each checkpoint of the PPO run: KL, proxy, gold, and whether the reward model still orders fresh answers as gold does."""
    points = []
    few = prompts[: cfg.frontier.max_prompts]
    for checkpoint in checkpoints_of(Path(str(cfg.frontier.run))):
        fresh = fresh_answers(cfg, resolve_model(checkpoint), few, ref_policy, judges, 2)
        point: dict[str, Any] = {
            "step": int(checkpoint.name.split("-")[1]),
            "kl": float(fresh["kl"].mean()),
            "proxy": float(fresh["scores"].mean()),
            "proxy_ci": mean_ci(fresh["scores"].mean(1)),
        }
        if fresh["gold"] is not None:
            point |= {
                "gold": float(fresh["gold"].mean()),
                "gold_ci": mean_ci(fresh["gold"].mean(1)),
                "reward_accuracy_vs_gold": against_gold(fresh["scores"], fresh["gold"])["accuracy_vs_gold_ci"],
            }
        points.append(point)
    return points


def samples(cfg: EvaluateConfig, prompts: list[Prompt], answers: dict[str, Answers], *, per_kind: int = 3) -> list[dict[str, Any]]:
    """A few prompts of each kind (a field of the prompt files; one kind where there is none) with every model's answer."""
    kinds = prompt_kinds(cfg)
    shown: dict[str | None, int] = {}
    rows = []
    for i, prompt in enumerate(prompts):
        text = last_user_text(prompt) or prompt_text(prompt)
        kind = kinds.get(text)
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= (per_kind if kinds else 4 * per_kind):
            rows.append({"prompt": text, "kind": kind, "answers": {n: a.texts[i] for n, a in answers.items()},
                         "gold": {n: a.gold[i] for n, a in answers.items() if a.gold}})
    return sorted(rows, key=lambda row: str(row["kind"]))


def prompt_kinds(cfg: EvaluateConfig) -> dict[str, str]:
    """Last user text -> the row's `kind`, for prompt files whose rows name one."""
    kinds = {}
    for path in expand_files(cfg.data.all_files()):
        if (form := kind_of(path)) == "plain":
            continue
        for _, row in read_rows(path, form):
            if not isinstance(row, Rejected) and isinstance(row.get("kind"), str) and isinstance(row.get("prompt"), list):
                kinds[last_user_text(messages_from_json(row["prompt"]))] = row["kind"]
    return kinds


def trained_stages(cfg: EvaluateConfig, reference: str) -> dict[str, Path]:
    """Stage -> run whose curves the report draws: the config's, or whatever of its models is a run, each once, in the usual order."""
    if cfg.curves:
        return {stage: Path(folder) for stage, folder in cfg.curves.items()}
    named = {reference: cfg.models[reference].path, "reward": cfg.reward} | {name: entry.path for name, entry in cfg.models.items()}
    once: dict[Path, str] = {}
    for name, path in named.items():
        once.setdefault(Path(path), name)
    return {name: path for path, name in once.items() if (path / "metrics.jsonl").is_file()}


def stage_seconds(folder: Path) -> float | None:
    """Wall time of a finished stage."""
    file = folder / "result.json"
    return read_json_object(file, hint=REMAKE).get("seconds") if file.exists() else None
