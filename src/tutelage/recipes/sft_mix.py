"""Instruction mixes of SFT: the sources as tasks, which rows a step takes, and tasks that are never trained but measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from tutelage.base.config import Section
from tutelage.base.errors import did_you_mean
from tutelage.base.log import get_logger
from tutelage.models.batches import pad_tokens
from tutelage.models.policy import token_logprobs
from tutelage.text.chat import Encoded, encode_example
from tutelage.text.mixes import Task, Template, fields_of, mixing_rates, read_task, rows_of_mixture
from tutelage.text.readers import read_demonstrations, read_sources
from tutelage.train.batches import rows_of_step
from tutelage.train.sections import DataSection, SourceSection

log = get_logger()


class TemplateSection(Section):
    """One way to put a row into words."""

    prompt: str = Field(min_length=1)
    """What the user says; {field} is a field of the row, {a.b} one inside it, {options} the words the answer is one of."""
    response: str = Field(min_length=1)
    """What the assistant should answer, with fields as in the prompt."""


class TaskSource(SourceSection):
    """Files of one layout, or of none with templates, that belong to a task."""

    task: str | None = None
    """The task these rows belong to, for an instruction mix (docs/sft.md); several sources may share one."""
    templates: list[TemplateSection] = []
    """Ways to put a row into words, for files in nobody's layout; each row gets one of them at random."""
    words: dict[str, dict[str, str]] = {}
    """Field -> value -> what templates call it, such as {label: {0: bad, 1: good}}; the choices, where a response is that field alone."""
    held_out: bool = False
    """Never train on this task; measure it before and after."""

    @model_validator(mode="after")
    def _templates_say_all(self) -> Self:
        if not self.templates:
            if self.words:
                raise ValueError("words are for templates: give this source templates, or leave words out")
            return self
        fields = fields_of(self.wordings())
        if unknown := [name for name in self.words if name not in fields]:
            raise ValueError(f"words.{unknown[0]}: no template has this field{did_you_mean(unknown[0], fields)}")
        reading = [name for name, field in SourceSection.model_fields.items()
                   if name not in ("files", "limit") and getattr(self, name) != field.default]
        if reading:
            raise ValueError(f"{reading[0]} is for files in a known layout, and templates are for those in none: give one of the two")
        return self

    def wordings(self) -> list[Template]:
        """The templates. Raises: ValueError for a brace that stands alone."""
        return [Template(t.prompt, t.response) for t in self.templates]


class MixSection(DataSection):
    """As everywhere, and the sources may be tasks of an instruction mix."""

    sources: list[TaskSource] = []  # type: ignore[assignment]
    cap: int | None = Field(None, ge=1)
    """Rows that a task gives an epoch at most, so that large tasks leave room (FLAN: 3000); None takes all."""

    @model_validator(mode="after")
    def _tasks_are_whole(self) -> Self:
        named = [source.task is not None for source in self.sources]
        if any(named) and not all(named):
            raise ValueError("either every source names its task, or none does")
        if not any(named) and (self.cap or any(source.templates or source.held_out for source in self.sources)):
            raise ValueError("cap, templates and held_out are for tasks: give every source a task")
        for name in {source.task for source in self.sources}:
            if len({source.held_out for source in self.sources if source.task == name}) > 1:
                raise ValueError(f"the task {name} is held out in one source and trained in another")
        if self.sources and all(source.held_out for source in self.sources):
            raise ValueError("every task is held out, so there is nothing to train on")
        return self

    def held_out_tasks(self) -> set[str]:
        """Names of the tasks that are measured and not trained."""
        return {source.task for source in self.sources if source.held_out and source.task is not None}


@dataclass(frozen=True)
class Trial:
    """A row of a held-out task: its candidate answers, the right one at `right`."""

    candidates: list[Encoded]
    right: int


def read_tasks(data: MixSection, seed: int) -> tuple[list[Task], str]:
    """(tasks in the order of their sources, layouts); all rows are one nameless task where the config names none."""
    if not any(source.task for source in data.sources):
        found = read_sources(read_demonstrations, data.each())
        return [Task.of("", found.rows)], found.layout
    tasks: dict[str, Task] = {}
    layouts: dict[str, None] = {}
    for number, source in enumerate(data.sources):
        name = source.task or ""
        if source.templates:
            one, rejected = read_task(name, source.files, source.wordings(), source.words, seed=seed + number, limit=source.limit)
            layout = "templates"
            if rejected:
                log.warning("task %s: %d rows left out, the first at %s:%d: %s", name, len(rejected), rejected[0].file, rejected[0].line,
                            rejected[0].reason)
        else:
            found = read_sources(read_demonstrations, [(source.files, source.read_options())])
            one, layout = Task.of(name, found.rows), found.layout
        tasks.setdefault(name, Task(name)).extend(one)
        layouts[layout] = None
    return list(tasks.values()), ", ".join(layouts)


def tell(names: list[str], sizes: list[int], cap: int | None) -> None:
    """Log what each trained task gives."""
    for name, size, rate in zip(names, sizes, mixing_rates(sizes, cap), strict=True):
        log.info("task %s: %d training rows, %.1f %% of what is trained", name, size, 100 * rate)


def rows_per_epoch(sizes: list[int], cap: int | None) -> int:
    """Training rows of one epoch."""
    return sum(sizes) if cap is None else int(np.minimum(sizes, cap).sum())


def rows_to_train(step: int, sizes: list[int], cap: int | None, batch_size: int, seed: int) -> np.ndarray:
    """Row numbers of a step; without a cap the rows of all tasks are shuffled as one."""
    if cap is None:
        return rows_of_step(step, sum(sizes), batch_size, seed)
    return rows_of_mixture(step, sizes, cap, batch_size, seed)


def trials(tokenizer: Any, task: Task, limit: int, max_rows: int, seed: int) -> list[Trial]:
    """Rows of a task, encoded with all their choices; rows longer than `limit` tokens are left out.

    Drawn at random, because files are often sorted by the very label that is asked for.
    """
    found: list[Trial] = []
    for at in np.random.default_rng(seed).permutation(len(task.rows)):
        row, choices = task.rows[at], task.choices[at]
        answers = list(dict.fromkeys(choices)) or [row.response]
        candidates = [encode_example(tokenizer, row.prompt, answer) for answer in answers]
        if max(len(one.tokens) for one in candidates) <= limit:
            found.append(Trial(candidates, answers.index(row.response)))
        if len(found) == max_rows:
            break
    return found


@torch.no_grad()
def measure(policy: Any, pad_token_id: int, unseen: dict[str, list[Trial]], *, batch_size: int, device: str) -> dict[str, dict[str, float]]:
    """Of each held-out task: rows, `loss` in nats per token of the right answers, and where there are choices `accuracy`, the share of rows
    whose right answer is the likeliest (rank classification, as in FLAN)."""
    training = policy.training
    policy.eval()
    found = {}
    for name, rows in unseen.items():
        flat = [one for row in rows for one in row.candidates]
        sums: list[float] = []
        for start in range(0, len(flat), batch_size):
            batch = pad_tokens([(one.tokens, one.response_mask) for one in flat[start : start + batch_size]], pad_token_id, device)
            logprobs = token_logprobs(policy, batch.tokens, batch.attention_mask)                    # (B, T)
            sums += torch.where(batch.response_mask, logprobs, 0.0).sum(1).tolist()
        at = np.cumsum([0, *(len(row.candidates) for row in rows)])
        right = [sums[start + row.right] for start, row in zip(at, rows, strict=False)]
        tokens = sum(sum(row.candidates[row.right].response_mask) for row in rows)
        found[name] = {"rows": len(rows), "loss": -sum(right) / tokens}
        if any(len(row.candidates) > 1 for row in rows):
            best = [max(sums[start : start + len(row.candidates)]) for start, row in zip(at, rows, strict=False)]
            found[name]["accuracy"] = sum(r == b for r, b in zip(right, best, strict=True)) / len(rows)
    policy.train(training)
    return found
