"""Which rows go into which step: a function of (seed, step) alone, so a resumed run needs no cursor."""

from __future__ import annotations

import numpy as np


def rows_of_step(step: int, num_rows: int, batch_size: int, seed: int) -> np.ndarray:
    """Row numbers of 0-based `step`: each epoch is a fresh permutation, whole batches only (all rows when there are fewer)."""
    per_epoch = max(1, num_rows // batch_size)
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(num_rows)
    return order[position * batch_size : (position + 1) * batch_size]
