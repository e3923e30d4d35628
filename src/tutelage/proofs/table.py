"""Every cell of the proof as a Markdown table: `python -m tutelage.proofs.table METHOD --write docs/prove.md`.

Cells run in processes of one thread each, so the seconds are those of one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tutelage.base.files import atomic_write_text
from tutelage.proofs.methods import METHODS, TOLERANCE

BETAS = (0.1, 0.5, 1.0)
SEEDS = tuple(range(20))
UNSCALED_BETA = 0.1


@dataclass(frozen=True)
class Cell:
    """One trained task."""

    beta: float
    seed: int
    scaled: bool
    total_variation: float
    missed_modes: int
    seconds: float


def run_cell(method: str, beta: float, seed: int, scaled: bool) -> Cell:
    """One cell on one thread."""
    import torch

    from tutelage.proofs.check import prove

    torch.set_num_threads(1)
    proof = prove(method, beta=beta, seed=seed, scaled=scaled)
    return Cell(beta, seed, scaled, proof.total_variation, proof.missed_modes, proof.seconds)


def run_cells(method: str, wanted: Sequence[tuple[float, int, bool]], jobs: int) -> list[Cell]:
    """The wanted (beta, seed, scaled) cells, in order, with a line on stderr as each is done."""
    done: dict[tuple[float, int, bool], Cell] = {}
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(run_cell, method, *key) for key in wanted]
        for future in as_completed(futures):
            cell = future.result()
            done[cell.beta, cell.seed, cell.scaled] = cell
            print(f"{len(done)}/{len(wanted)} beta {cell.beta:g} seed {cell.seed}{'' if cell.scaled else ' unscaled'}: "
                  f"{cell.total_variation:.5f} in {cell.seconds:.0f} s", file=sys.stderr, flush=True)
    return [done[key] for key in wanted]


def markdown(cells: Sequence[Cell]) -> str:
    """Rows are seeds, columns the betas, then the unscaled case; below them the worst, the median and the time."""
    columns = [(beta, True) for beta in BETAS] + [(UNSCALED_BETA, False)]
    groups = [[c for c in cells if (c.beta, c.scaled) == column] for column in columns]
    rows = [["seed", *(f"β = {beta:g}{'' if scaled else ', unscaled'}" for beta, scaled in columns)], ["---:"] * (len(columns) + 1)]
    for row in zip(*groups, strict=True):
        rows.append([str(row[0].seed), *(f"{c.total_variation:.5f}{' ✗' if c.missed_modes else ''}" for c in row)])
    distances = [[c.total_variation for c in group] for group in groups]
    seconds = [[c.seconds for c in group] for group in groups]
    rows.append(["worst", *(f"{max(d):.5f}" for d in distances)])
    rows.append(["median", *(f"{statistics.median(d):.5f}" for d in distances)])
    rows.append(["seconds, median (worst)", *(f"{statistics.median(s):.0f} ({max(s):.0f})" for s in seconds)])
    scaled, unscaled = [c for c in cells if c.scaled], [c for c in cells if not c.scaled]
    within, missing = sum(c.total_variation <= TOLERANCE for c in scaled), sum(c.missed_modes > 0 for c in unscaled)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + (
        f"\n\n{within} of {len(scaled)} cells with scaled rewards are within {TOLERANCE}. "
        f"Unscaled, {missing} of {len(unscaled)} seeds miss a mode (marked ✗).\n")


def write_between_markers(page: Path, method: str, table: str) -> None:
    """Replace what stands between the page's two markers of this method. Raises: ValueError when they are not there."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- table {method} -->\n", f"<!-- end {method} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no lines {begin.strip()!r} and {end!r}")
    atomic_write_text(page, before + begin + table + end + after)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tutelage.proofs.table", description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="seeds 0 to this, which is left out")
    parser.add_argument("--jobs", type=int, default=1, help="cells side by side, one thread each")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the markers of this page, too")
    args = parser.parse_args()
    seeds = range(args.seeds)
    wanted = [(beta, seed, True) for beta in BETAS for seed in seeds] + [(UNSCALED_BETA, seed, False) for seed in seeds]
    cells = run_cells(args.method, wanted, args.jobs)
    table = markdown(cells)
    print(table, end="")
    if args.write:
        write_between_markers(args.write, args.method, table)
    sys.exit(0 if all(c.total_variation <= TOLERANCE for c in cells if c.scaled) else 1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
