"""Labels as arrays: who said what of which item. What agreement and reliability are computed from; made from rows of any source."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.base.errors import DataError
from tutelage.base.stats import Floats, group_index, same_length
from tutelage.feedback.intervals import Ints


@dataclass(frozen=True)
class Labels:
    """One row a label; a label that nobody gave has no row. A person may label an item twice.

    item, labeler, value: (n,) indices into `items` (I), `labelers` (A) and `values` (K, in ascending order or that of the scale).
    prompt: (I,) index of the prompt an item belongs to, the unit of resampling.
    """

    item: Ints
    labeler: Ints
    value: Ints
    items: tuple[Hashable, ...]
    labelers: tuple[Hashable, ...]
    values: tuple[Any, ...]
    prompt: Ints

    @classmethod
    def of(cls, items: Sequence[Hashable], labelers: Sequence[Hashable], values: Sequence[Any], *, scale: Sequence[Any] | None = None,
           prompts: Sequence[Hashable] | None = None) -> Labels:
        """Rows -> labels; a value of None or nan is a missing label.

        Args: items, labelers, values: (n,), in the same order. scale: every allowed value from lowest to highest; without it those that
            occur, sorted. prompts: (n,) the prompt of each row's item, where one prompt has several items; without it each item its own.
        Raises: DataError for a value that is not on the scale. ValueError on unequal lengths.
        """
        same_length(items=items, labelers=labelers, values=values, prompts=items if prompts is None else prompts)
        kept = [i for i, value in enumerate(values) if value is not None and value == value]
        items, labelers, values = [items[i] for i in kept], [labelers[i] for i in kept], [values[i] for i in kept]
        known = tuple(sorted(set(values)) if scale is None else scale)
        code = {value: i for i, value in enumerate(known)}
        if unknown := [value for value in values if value not in code]:
            raise DataError(f"a label is {unknown[0]!r}, the scale is {', '.join(map(repr, known))}", hint="give every value of the scale")
        item = group_index(items, len(items))
        prompt = np.arange(len(set(items)))
        if prompts is not None:
            _, first = np.unique(item, return_index=True)
            prompt = group_index([prompts[kept[i]] for i in first], len(first))
        return cls(item, group_index(labelers, len(items)), np.array([code[value] for value in values], dtype=np.int64),
                   tuple(dict.fromkeys(items)), tuple(dict.fromkeys(labelers)), known, prompt)

    def __len__(self) -> int:
        return len(self.item)

    def counts(self, rows: NDArray[np.bool_] | None = None) -> Floats:
        """(I, K) how many labels of each value an item has. rows: (n,) bool, only those."""
        shape = len(self.items), len(self.values)
        cell = self.item * shape[1] + self.value
        return np.bincount(cell if rows is None else cell[rows], minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    def majority(self) -> Ints:
        """(I,) index of the value that most labels of an item give, -1 where two are most common."""
        counts = self.counts()
        return np.where((counts == counts.max(1, keepdims=True)).sum(1) == 1, counts.argmax(1), -1)

    def only(self, rows: NDArray[np.bool_]) -> Labels:
        """The labels of some rows, (n,) bool, with the items and labelers that have any; the scale stays."""
        at = np.flatnonzero(rows)
        items, labelers = [self.items[i] for i in self.item[at]], [self.labelers[i] for i in self.labeler[at]]
        return Labels.of(items, labelers, [self.values[v] for v in self.value[at]], scale=self.values,
                         prompts=self.prompt[self.item[at]].tolist())
