"""Which of people's prompts may be used, and on which side: consent, one of each long prefix, at most so many a user, split by user.

Source: Ouyang et al. 2022, arXiv:2203.02155, section 3.2 and appendix A.2 (long common prefixes, 200 prompts per user, splits by user id).
The paper gives no length for the prefix; MIN_PREFIX and MIN_SHARE are ours.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from tutelage.base.near import near_any
from tutelage.base.records import Prompt
from tutelage.base.split import Side, side_of, split_key

Source = Literal["labeler", "customer", "import", "demo"]
MAX_PER_USER = 200
MIN_PREFIX, MIN_SHARE = 100, 0.6
"""Two prompts are one when they begin with the same 100 characters or more, and these are 0.6 of the shorter one."""


@dataclass(frozen=True, slots=True)
class UserPrompt:
    """A prompt and whose it is. user: the customer's id, or the labeler's; None where nobody knows. consent: may it be used?"""

    prompt: Prompt
    source: Source = "labeler"
    user: str | None = None
    consent: bool = False

    @property
    def usable(self) -> bool:
        """A customer's prompt is given out and trained on with their consent only; labelers wrote theirs for it."""
        return self.consent or self.source != "customer"


@dataclass(frozen=True)
class Selection:
    """What became of each prompt: the side it is used on, else why it is left out.

    sides: one per prompt, None where it is left out. left_out: reason -> places of the prompts.
    """

    sides: list[Side | None]
    left_out: dict[str, list[int]] = field(default_factory=dict)


def select_prompts(prompts: Sequence[UserPrompt], *, eval_frac: float, seed: int, max_per_user: int = MAX_PER_USER,
                   in_use: Collection[int] = ()) -> Selection:
    """Consent, then one prompt of each long prefix, then the cap, then sides by user.

    What is kept and where it goes depends on the prompts and the seed, not on their order. A user's side depends on their id and the seed
    alone. in_use: places of prompts that are used already, so that of several these are kept.
    Raises: ValueError if eval_frac is outside [0, 1].
    """
    keys = [split_key(prompt.prompt) for prompt in prompts]
    used = frozenset(in_use)
    ranks = [(i not in used, _rank(prompt, key, seed), not prompt.consent, str(prompt.prompt))   # the last two where words are the same
             for i, (prompt, key) in enumerate(zip(prompts, keys, strict=True))]
    usable = [i for i, prompt in enumerate(prompts) if prompt.usable]
    groups = ([usable[at] for at in group] for group in prefix_groups([asked(prompts[i].prompt) for i in usable]))
    distinct = [min(group, key=lambda i: (ranks[i], i)) for group in groups]
    kept = _capped(prompts, ranks, distinct, max_per_user)
    sides: list[Side | None] = [None] * len(prompts)
    for i in kept:
        sides[i] = side_of(_owner(prompts[i], keys[i]), eval_frac=eval_frac, seed=seed)
    near = _near_held_out(keys, sides)
    for i in near:
        sides[i] = None
    steps = {"no consent": (range(len(prompts)), usable), "shares a long prefix": (usable, distinct),
             "beyond the user's share": (distinct, kept), "nearly repeats a held-out one": (near, ())}
    left_out = {reason: sorted(set(before) - set(after)) for reason, (before, after) in steps.items()}
    return Selection(sides, {reason: gone for reason, gone in left_out.items() if gone})


def asked(prompt: Prompt) -> str:
    """A prompt from its first user turn on, case and spacing aside: system turns and greetings are the same for everybody."""
    if isinstance(prompt, str):
        return split_key(prompt)
    start = next((i for i, message in enumerate(prompt) if message.role == "user"), len(prompt))
    rest = "".join(f"\n{message.role}: {message.content}" for message in prompt[start + 1:])
    return split_key("".join(message.content for message in prompt[start:start + 1]) + rest)


def prefix_groups(texts: Sequence[str]) -> list[list[int]]:
    """Places of the texts, those together that are one: that share a long prefix, or are joined by others that do.

    A text of n characters names its first max(MIN_PREFIX, MIN_SHARE * n), and is one with all that begin so, longer or shorter; one too
    short for that only with its equals. In sorted order these stand side by side, so groups are runs that overlap: the work is sorting
    and two searches a text, never each with each.
    """
    order = sorted(range(len(texts)), key=lambda i: (texts[i], i))
    ordered = [texts[i] for i in order]
    opened = [0] * (len(ordered) + 1)                               # runs that begin here, less those that end
    for text in dict.fromkeys(ordered):
        first, last = _run(ordered, text)
        opened[first] += 1
        opened[last] -= 1
    groups: list[list[int]] = []
    running = 0
    for i, change in zip(order, opened, strict=False):
        if not running:
            groups.append([])
        groups[-1].append(i)
        running += change
    return groups


def _run(ordered: Sequence[str], text: str) -> tuple[int, int]:
    """Places of the first and last that are one with a text on account of the prefix it names."""
    length = max(MIN_PREFIX, math.ceil(MIN_SHARE * len(text)))
    if len(text) < length:
        return bisect_left(ordered, text), bisect_right(ordered, text) - 1
    prefix = text[:length]
    first = bisect_left(ordered, prefix)
    return first, bisect_left(ordered, True, first, key=lambda other: not other.startswith(prefix)) - 1


def _capped(prompts: Sequence[UserPrompt], ranks: Sequence[tuple[bool, bytes, bool, str]], kept: Sequence[int], most: int) -> list[int]:
    """At most so many prompts of each customer. Labelers write for pay and are not capped."""
    of_user = defaultdict[Any, list[int]](list)
    for i in kept:
        free = prompts[i].source == "labeler" or not prompts[i].user
        of_user[i if free else (prompts[i].source, prompts[i].user)].append(i)
    return [i for own in of_user.values() for i in sorted(own, key=lambda i: (ranks[i], i))[:most]]


def _near_held_out(keys: Sequence[str], sides: Sequence[Side | None]) -> list[int]:
    """Places of the training prompts that nearly repeat a held-out one."""
    trained = [i for i, side in enumerate(sides) if side == "train"]
    held = sorted({key for key, side in zip(keys, sides, strict=True) if side == "eval"})
    if not trained or not held:
        return []
    return [i for i, repeats in zip(trained, near_any([keys[i] for i in trained], held), strict=True) if repeats]


def _owner(prompt: UserPrompt, key: str) -> str:
    """What stays on one side: all prompts of a user; without a user, all copies of the prompt."""
    return f"{prompt.source} {prompt.user}" if prompt.user else key


def _rank(prompt: UserPrompt, key: str, seed: int) -> bytes:
    """A keyed hash that decides which of several prompts is kept, so that neither the first nor the longest is favoured."""
    text = f"{prompt.source}\0{prompt.user}\0{key}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, salt=str(seed).encode()[-16:]).digest()
