"""Train and eval sides by hash of the prompt: the same prompt lands on the same side in every file of a pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeVar

from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Prompt

log = get_logger()
Side = Literal["train", "eval"]
SplitBy = Literal["prompt", "first_turn", "opening"]
OPENING_WORDS = 4
T = TypeVar("T")


def split_of(prompt: Prompt, *, eval_frac: float, seed: int, by: SplitBy = "prompt") -> Side:
    """The side of one prompt; depends on its text and the seed only, not on the file, its order or the machine.

    `by="first_turn"` keeps every context cut from one conversation on one side: its key is the first user turn alone.
    `by="opening"` keeps a text and its first four words on one side.
    The eval side of a smaller `eval_frac` is contained in that of a larger one. Raises: ValueError if eval_frac is outside [0, 1].
    """
    return side_of(split_key(prompt, by=by), eval_frac=eval_frac, seed=seed)


def split_sides(prompts: Sequence[Prompt], *, eval_frac: float, seed: int, by: SplitBy = "prompt",
                held_out: str | Collection[Prompt] | None = None, keep_near: bool = False) -> list[Side | None]:
    """The side of each prompt; None for one that would be trained on although it nearly repeats a held-out one (tutelage.base.near).

    Sides stay those of `split_of`, or `held_out` says them (a file that names the held-out prompts, or those prompts), so every stage of a
    pipeline holds out the same; only training gets smaller, and says so in the log.
    `keep_near` leaves it as it is. Raises: DataError when that file cannot be read or names no prompt.
    """
    keys = [split_key(prompt, by=by) for prompt in prompts]
    named = None if held_out is None else (read_keys(Path(held_out), by=by) if isinstance(held_out, str)
                                           else frozenset(split_key(prompt, by=by) for prompt in held_out))
    sides: list[Side | None] = [
        side_of(key, eval_frac=eval_frac, seed=seed) if named is None else "eval" if key in named else "train" for key in keys]
    distinct = dict(zip(keys, sides, strict=True))
    trained = [key for key, side in distinct.items() if side == "train"]
    # A file names held-out prompts of other stages too: what nearly repeats one of those leaks as much as what repeats one of ours.
    tested = [key for key, side in distinct.items() if side == "eval"] if named is None else sorted(named)
    if keep_near or not tested or not trained:
        return sides
    from tutelage.base.near import near_any

    near = {key for key, repeats in zip(trained, near_any(trained, tested), strict=True) if repeats}
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
    words = text.casefold().split()
    return " ".join(words[:OPENING_WORDS] if by == "opening" else words)


def side_of(key: str, *, eval_frac: float, seed: int) -> Side:
    """The side of a key: a keyed hash as a uniform number in [0, 1) against `eval_frac`."""
    if not 0 <= eval_frac <= 1:
        raise ValueError(f"eval_frac={eval_frac} is not between 0 and 1")
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, salt=str(seed).encode()[-16:]).digest()
    return "eval" if int.from_bytes(digest, "big") < eval_frac * 2**64 else "train"


def deal_folds(keys: Sequence[str], folds: int, *, seed: int) -> dict[str, int]:
    """key -> fold, rows of one key together and folds of nearly equal size: the largest keys first, each to the smallest fold.

    Args: keys: one per row. seed: decides between keys of equal size. Raises: DataError when there are fewer keys than folds.
    """
    count = Counter(keys)
    if len(count) < folds:
        raise DataError(f"{len(count)} distinct prompts cannot be dealt into {folds} folds", hint="lower folds, or split more finely")
    names = sorted(count)
    Random(seed).shuffle(names)
    size, fold_of = [0] * folds, dict[str, int]()
    for name in sorted(names, key=lambda name: -count[name]):
        fold_of[name] = size.index(min(size))
        size[fold_of[name]] += count[name]
    return fold_of


def write_keys(path: Path, keys: Iterable[str]) -> None:
    """The file that `held_out` names: one key a line."""
    path.write_text("".join(key + "\n" for key in sorted(keys)), encoding="utf-8")


def read_keys(path: Path, *, by: SplitBy) -> frozenset[str]:
    """Keys of the prompts in such a file. Raises: DataError when it cannot be read or names none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the held-out prompts in {path}: {error}", hint="one prompt a line, UTF-8") from error
    keys = frozenset(split_key(line, by=by) for line in lines if line.strip())
    if not keys:
        raise DataError(f"{path} names no held-out prompt", hint="one prompt a line")
    return keys


def _prompt_of(row: Any) -> Prompt:
    return row.prompt  # type: ignore[no-any-return]
