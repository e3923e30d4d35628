"""PPO rewarded by people: each rollout goes into the studio's queue, and the run waits for its scores, for days if need be.

A rollout is known by its run and iteration. A run that was killed while it waited makes the same rollout again, finds it asked, and goes on
waiting; of iterations that are made once more the scores are there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from tutelage.base.log import get_logger
from tutelage.base.progress import progress
from tutelage.base.records import Prompt
from tutelage.feedback.location import locate, shown
from tutelage.feedback.rollouts import MOST, Asked, Standing, ask, ask_again, standing
from tutelage.feedback.store import Store
from tutelage.feedback.trust import trust
from tutelage.rewards.base import Reward
from tutelage.rewards.mix import RewardSection, StudioSection
from tutelage.rollout.batch import Rollout
from tutelage.train.run import Run

log = get_logger()


@dataclass
class PeopleReward:
    """What people say of a rollout's answers, in [-1, 1]. run: the name its tasks go by. stopped: whether a signal ended the wait."""

    store: Store
    section: StudioSection
    policy_tokenizer: Any
    run: str
    sampling: Mapping[str, Any]
    stopped: Callable[[], bool]

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        iteration = rollout.completions[0].weight_version
        texts = rollout.texts(self.policy_tokenizer)
        asked = [Asked(prompts[group[0]], tuple(texts[i] for i in group), tuple(rollout.completions[i].logprobs for i in group))
                 for group in groups_of(prompts, texts)]
        name = f"{self.run} {iteration}"
        ids = self.store.write(lambda conn: ask(conn, asked, batch=name, model=name, alone=self.section.kind, overlap=self.section.overlap,
                                                sampling=self.sampling, now=self.store.now()))
        times = Counter(zip(prompts, texts, strict=True))
        found = self._wait({task: [times[one.prompt, text] for text in one.texts] for one, task in zip(asked, ids, strict=True)}, iteration)
        scores = dict.fromkeys(zip(prompts, texts, strict=True), 0.0)
        for one, task in zip(asked, ids, strict=True):
            scores.update({(one.prompt, text): score for text, score in zip(one.texts, found.scores[task], strict=True)})
        return torch.tensor([scores[key] for key in zip(prompts, texts, strict=True)], device=rollout.tokens.device)

    def _wait(self, sampled: Mapping[int, Sequence[int]], iteration: int) -> Standing:
        """Until all is judged. sampled: task -> how often each of its answers was.

        Raises: KeyboardInterrupt after a signal: what was said is in the store, and asked for once.
        """
        with progress(len(sampled), f"people (iteration {iteration})", "tasks judged", interval_seconds=60.0) as bar:
            while True:
                with self.store.read() as conn:
                    found = standing(conn, sampled, overlap=self.section.overlap)
                note = f"{found.halted} wait for a lead, since people skipped them" if found.halted else ""
                bar.update(len(found.scores) - bar.done, note)
                if found.done:
                    return self._weighed(found, sampled)
                if self.stopped():
                    raise KeyboardInterrupt
                if found.short:
                    self.store.write(partial(ask_again, short=found.short, overlap=self.section.overlap))
                time.sleep(self.section.poll_seconds)


    def _weighed(self, found: Standing, sampled: Mapping[int, Sequence[int]]) -> Standing:
        """The scores of people who are believed as far as they can be. One person's verdict stands, however much it weighs."""
        if not self.section.reliability or self.section.overlap == 1:
            return found
        with self.store.read() as conn:
            trusted = trust(conn)
            found = standing(conn, sampled, overlap=self.section.overlap, trusted=trusted.weights)
        # No names: what the store forgets of a person must not stand in this run's log.
        log.info("people are weighed: %s", trusted.told[0] if not trusted.weights else ", ".join(
            f"{weight:.2f}" for weight in sorted(trusted.weights.values())))
        return found


def groups_of(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[list[int]]:
    """Rows whose answers are judged together: distinct answers to one prompt, at most MOST a group, in groups of equal size or one less.

    Several answers of a prompt that all say the same are in no group: there is nothing to compare, and their score is the mean, 0.
    """
    rows: dict[Prompt, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    groups = []
    for own in rows.values():
        first: dict[str, int] = {}
        for row in own:
            first.setdefault(texts[row], row)
        distinct = list(first.values())
        if len(distinct) > 1 or len(own) == 1:
            number = -(-len(distinct) // MOST)
            groups += [distinct[at::number] for at in range(number)]
    return groups


def open_people(sections: Mapping[str, RewardSection], tokenizer: Any, run: Run, sampling: Mapping[str, Any], *, ask: bool
                ) -> dict[str, Reward]:
    """The rewards that people give, by name; without `ask` they say 0 of everything and nobody is asked.

    Raises: StoreError, ConfigError when the studio's store cannot be opened.
    """
    asking = {key: section.studio for key, section in sections.items() if section.studio is not None}
    if not ask:
        return dict.fromkeys(asking, unasked)
    name = f"ppo {run.folder.name} {sha256(str(run.folder.resolve()).encode()).hexdigest()[:8]}"
    return {key: PeopleReward(Store.open(section.database), section, tokenizer, f"{name} {key}", sampling, lambda: run.interrupted)
            for key, section in asking.items()}


def unasked(prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
    """A reward of 0 for every answer."""
    return torch.zeros(len(rollout), device=rollout.tokens.device)


def named(section: StudioSection) -> str:
    """The store as the lineage has it."""
    return f"studio {shown(locate(section.database))}"
