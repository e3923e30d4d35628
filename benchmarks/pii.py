"""How well personal data is found: on the seeded set of the tests, and what is masked in real texts.

usage: python benchmarks/pii.py [--seed 0] [--per-kind 2000] [--seen] [--texts FOLDER] [--show 0]

Prints recall and precision of each kind with 95% Wilson intervals. With --texts, a folder of gzipped JSON lines as the real data sets are,
also what is masked in each file per 100,000 words; --show N prints N of them of each kind, with the words around.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.feedback.pii_set import KINDS, draw, score  # noqa: E402
from tutelage.base.stats import wilson  # noqa: E402
from tutelage.feedback import pii  # noqa: E402


def found(text: str) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.kind) for span in pii.mask_text(text)[1]]


def share(good: int, of: int) -> str:
    rate = wilson(good, of)
    return f"{rate['mean']:.4f} [{rate['low']:.4f}, {rate['high']:.4f}]" if of else "none"


def on_the_set(seed: int, per_kind: int, unseen: bool) -> None:
    tally = score(draw(seed, per_kind=per_kind, unseen=unseen), found)
    print(f"seed {seed}, {per_kind} positives and as many negatives of each kind, sentences {'held out' if unseen else 'of development'}")
    print(f"{'kind':<8}{'recall':<26}{'precision':<26}{'there':>6}{'found':>7}{'wrong':>7}")
    for kind in (*KINDS, "phone?"):
        there, right, wrong = tally.there[kind], tally.found[kind], tally.wrong[kind]
        print(f"{kind:<8}{share(right, there):<26}{share(right, right + wrong) if kind in KINDS else '':<26}{there:>6}{right:>7}{wrong:>7}")


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_of(item)


def row(name: str, words: int, counts: Counter[str]) -> str:
    return f"{name:<44}{words:>11,}  " + "".join(f"{counts[kind] / max(words, 1) * 1e5:>8.2f}" for kind in pii.KINDS)


def on_texts(folder: Path, show: int) -> None:
    total, words_in_all, seen = Counter[str](), 0, defaultdict[str, list[str]](list)
    print(f"{'per 100,000 words':<44}{'words':>11}  " + "".join(f"{kind:>8}" for kind in pii.KINDS))
    for file in sorted(folder.glob("*/*.jsonl.gz")):
        words, counts = 0, Counter[str]()
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                for text in texts_of(json.loads(line)):
                    words += len(text.split())
                    for span in pii.mask_text(text)[1]:
                        counts[span.kind] += 1
                        start, end = span.start, span.end
                        around = f"{text[max(0, start - 40):start]}⟦{text[start:end]}⟧{text[end:end + 25]}"
                        seen[span.kind].append(f"{file.parent.name}: {around!r}")
        print(row(str(file.relative_to(folder)), words, counts), flush=True)
        total.update(counts)
        words_in_all += words
    print(row("all", words_in_all, total))
    print(f"{'found':<44}{'':>11}  " + "".join(f"{total[kind]:>8}" for kind in pii.KINDS))
    for kind in pii.KINDS if show else ():
        print(f"\n{kind}")
        print("\n".join(random.Random(0).sample(seen[kind], min(show, len(seen[kind])))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--per-kind", type=int, default=2000)
    parser.add_argument("--seen", action="store_true", help="the sentences that the rules were written on")
    parser.add_argument("--texts", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()
    started = time.process_time()
    on_the_set(arguments.seed, arguments.per_kind, not arguments.seen)
    if arguments.texts is not None:
        on_texts(arguments.texts, arguments.show)
    print(f"{time.process_time() - started:.1f} s of processor")


if __name__ == "__main__":
    main()
