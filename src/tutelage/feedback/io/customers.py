"""Customers' rows on their way into the store: masked before anybody sees them, and of their prompts those that may be used.

Which ones is decided over all of them together, with those the store has already (feedback/splits.py), so the files are read twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select

from tutelage.base.records import Judgement, Response, prompt_from_json
from tutelage.feedback.pii import Masker, PiiKind, mask_prompt
from tutelage.feedback.schema import prompts
from tutelage.feedback.splits import UserPrompt, select_prompts

EVAL_FRAC = 0.1
"""Share of users whose prompts are held out."""
_SEED = 0                                                           # one for all imports: a user's side stays
Key = tuple[str, str | None]
"""A prompt by the hash of its masked content, and the user's id."""


def masked(judgement: Judgement) -> tuple[Judgement, Counter[PiiKind]]:
    """Its texts with placeholders, numbered as one, and how many of what was replaced. Log-probs of an answer that changed are left out."""
    masker = Masker()
    for answer in judgement.responses:
        masker.reserve(answer.text)
    prompt, _ = mask_prompt(judgement.prompt, masker=masker)
    answers = tuple(_masked_answer(masker, answer) for answer in judgement.responses)
    said = {name: masker.mask(text)[0] for name in ("critique", "edit") if (text := getattr(judgement, name)) is not None}
    extra = dict(judgement.extra)
    if "comment" in extra:
        extra["comment"] = masker.mask(extra["comment"])[0]
    return replace(judgement, prompt=prompt, responses=answers, extra=extra, **said), masker.counts    # type: ignore[arg-type]


def _masked_answer(masker: Masker, answer: Response) -> Response:
    text, spans = masker.mask(answer.text)
    return replace(answer, text=text, logprobs=None if spans else answer.logprobs)


@dataclass
class Choice:
    """What becomes of each prompt: "train" or "held_out" of those that come in, else why it stays outside."""

    splits: dict[Key, str] = field(default_factory=dict)
    left_out: dict[Key, str] = field(default_factory=dict)


def choose(conn: Connection, found: Iterable[tuple[Key, UserPrompt]]) -> Choice:
    """Which of these prompts come in. Those the store has stay, with their side, and a user of theirs keeps it.

    found: a prompt may come several times; it may be used if one of them says so. Holds all of them in memory.
    """
    there = conn.execute(select(prompts.c.hash, prompts.c.user, prompts.c.split, prompts.c.content, prompts.c.consent).where(
        prompts.c.source == "customer", prompts.c.content.is_not(None)).order_by(prompts.c.id)).all()
    splits: dict[Key, str] = {(row.hash, row.user): row.split for row in there if row.consent}
    of_user = {row.user: row.split for row in there if row.user is not None}
    new: dict[Key, UserPrompt] = {}
    for key, prompt in found:
        if key not in splits and (key not in new or prompt.consent):
            new[key] = prompt
    known = [UserPrompt(prompt_from_json(row.content), "customer", row.user, bool(row.consent)) for row in there]
    chosen = select_prompts([*known, *new.values()], eval_frac=EVAL_FRAC, seed=_SEED, in_use=range(len(known)))
    sides = dict(zip(new, chosen.sides[len(known):], strict=True))
    splits |= {key: of_user.get(key[1], "held_out" if side == "eval" else "train") for key, side in sides.items() if side is not None}
    places = {len(known) + at: key for at, key in enumerate(new)}
    return Choice(splits, {places[at]: reason for reason, gone in chosen.left_out.items() for at in gone if at in places})
