"""Train and eval sides by hash of the prompt: the same prompt lands on the same side in every file of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal, TypeVar

from tutelage.base.log import get_logger
from tutelage.base.records import Prompt

log = get_logger()
Side = Literal["train", "eval"]
SplitBy = Literal["prompt", "first_turn"]
T = TypeVar("T")


def split_of(prompt: Prompt, *, eval_frac: float, seed: int, by: SplitBy = "prompt") -> Side:
    """The side of one prompt; depends on its text and the seed only, not on the file, its order or the machine.

    `by="first_turn"` keeps every context cut from one conversation on one side: its key is the first user turn alone.
    The eval side of a smaller `eval_frac` is contained in that of a larger one. Raises: ValueError if eval_frac is outside [0, 1].
    """
    return side_of(split_key(prompt, by=by), eval_frac=eval_frac, seed=seed)


def split_sides(prompts: Sequence[Prompt], *, eval_frac: float, seed: int, by: SplitBy = "prompt", keep_near: bool = False
                ) -> list[Side | None]:
    """The side of each prompt; None for one that would be trained on although it nearly repeats a held-out one (tutelage.text.near).

    Sides stay those of `split_of`, so every stage of a pipeline holds out the same; only training gets smaller, and says so in the log.
    `keep_near` leaves it as it is.
    """
    keys = [split_key(prompt, by=by) for prompt in prompts]
    sides: list[Side | None] = [side_of(key, eval_frac=eval_frac, seed=seed) for key in keys]
    distinct = dict(zip(keys, sides, strict=True))
    held_out, trained = ([key for key, side in distinct.items() if side == name] for name in ("eval", "train"))
    if keep_near or not held_out or not trained:
        return sides
    from tutelage.text.near import near_any

    near = {key for key, repeats in zip(trained, near_any(trained, held_out), strict=True) if repeats}
    sides = [None if key in near else side for key, side in zip(keys, sides, strict=True)]
    if near:
        log.warning("%d of %d training rows left out: their prompts nearly repeat held-out ones (data.near_duplicates=keep leaves them in)",
                    sides.count(None), len(sides) - sides.count("eval"))
    return sides


def split_rows(rows: Iterable[T], *, eval_frac: float, seed: int, by: SplitBy = "prompt",
                  key: Callable[[T], str] | None = None) -> tuple[list[T], list[T]]:
    """(train, eval) of records with a `prompt`, or of texts; comparisons therefore split by prompt, never by pair.

    `key` groups rows by something else, such as a dialogue id kept in `Judgement.extra`: rows of one key share a side.
    """
    train: list[T] = []
    held_out: list[T] = []
    for row in rows:
        group = key(row) if key else split_key(row if isinstance(row, str) else _prompt_of(row), by=by)
        (held_out if side_of(group, eval_frac=eval_frac, seed=seed) == "eval" else train).append(row)
    return train, held_out


def split_key(prompt: Prompt, *, by: SplitBy = "prompt") -> str:
    """What two prompts must share to share a side: their words, whatever the case and the spacing.

    System turns do not count, and a lone user turn has the key of the same question as raw text.
    """
    if isinstance(prompt, str):
        text = prompt
    else:
        turns = [m for m in prompt if m.role != "system"]
        users = [m for m in turns if m.role == "user"]
        alone = len(turns) == 1 and bool(users)
        text = users[0].content if alone or (by == "first_turn" and users) else "\n".join(f"{m.role}: {m.content}" for m in turns)
    return " ".join(text.casefold().split())


def side_of(key: str, *, eval_frac: float, seed: int) -> Side:
    """The side of a key: a keyed hash as a uniform number in [0, 1) against `eval_frac`."""
    if not 0 <= eval_frac <= 1:
        raise ValueError(f"eval_frac={eval_frac} is not between 0 and 1")
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, salt=str(seed).encode()[-16:]).digest()
    return "eval" if int.from_bytes(digest, "big") < eval_frac * 2**64 else "train"


def _prompt_of(row: Any) -> Prompt:
    return row.prompt  # type: ignore[no-any-return]
