"""What the quality page tells, worked out once for all who look, and again only when something was said since."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from tutelage.base.log import get_logger
from tutelage.feedback.erase import erasures
from tutelage.feedback.overview import Overview, overview
from tutelage.feedback.standing import Moment, Standing, moment, read_standing
from tutelage.feedback.store import Store

log = get_logger("studio")
AT_ONCE_SECONDS = 0.5
"""What took less is worked out anew while the page waits."""
REST = 20
"""What took longer is worked out in the background, and not before it is so many times as old as it took: a twentieth of one core."""


@dataclass(frozen=True)
class Told:
    """at: the store's time when it was read, erasures: `erase.erasures` then. seconds: what it took."""

    standing: Standing
    overview: Overview
    at: float
    seconds: float
    erasures: int


class Newest:
    """The overview of a store. A page waits for the first one; later ones are made while the last is shown, which says its time.

    One that was read before somebody was erased is never shown again, whichever process erased them: then the page waits.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: Told | None = None
        self._making = threading.Lock()

    def get(self) -> Told:
        """The newest there is."""
        told = self._told
        with self._store.read() as conn:
            now, erased = moment(conn), erasures(conn)
        if told is None or told.erasures < erased:
            with self._making:
                told = self._told                                   # which another may have made, of before the erasure or after it
                return told if told is not None and told.erasures >= erased else self._make()
        if now == told.standing.moment:
            return told
        if told.seconds < AT_ONCE_SECONDS:
            with self._making:
                return self._make_unless(now)
        if self._store.now() - told.at > REST * told.seconds and self._making.acquire(blocking=False):
            threading.Thread(target=self._make_aside, name="overview", daemon=True).start()
        return told

    def _make_unless(self, now: Moment) -> Told:
        """What another thread made of the same moment meanwhile, or a new one."""
        told = self._told
        return told if told is not None and told.standing.moment == now else self._make()

    def _make_aside(self) -> None:
        try:
            self._make()
        except Exception as error:                                   # the page goes on with what it has
            log.error("the quality page could not be brought up to date", exc_info=error)
        finally:
            self._making.release()

    def _make(self) -> Told:
        started = time.perf_counter()
        with self._store.read() as conn:
            at, erased, standing = self._store.now(), erasures(conn), read_standing(conn)
        found = overview(standing)
        self._told = Told(standing, found, at, time.perf_counter() - started, erased)
        return self._told
