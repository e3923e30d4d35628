"""How often somebody may knock: token buckets in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class Limiter:
    """A bucket per key, which refills at `per_minute` up to `burst`. The longest unused of more than `max_keys` is forgotten."""

    def __init__(self, *, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic, max_keys: int = 20_000) -> None:
        self._rate, self._burst, self._clock, self._max_keys = per_minute / 60, float(burst), clock, max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, when)
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Take one token. Returns 0, or the seconds until there is one."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(key, (self._burst, now))
            tokens = min(self._burst, tokens + (now - then) * self._rate)
            wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
            self._buckets[key] = (tokens - 1 if wait == 0 else tokens, now)
            while len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
            return wait
