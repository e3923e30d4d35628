"""How the queue divides people's time: the lead's settings, kept as one document under the name `queue`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sqlalchemy import Connection

from ..base.errors import did_you_mean
from . import content, schema
from .errors import ContentError

SETTING = "queue"


@dataclass(frozen=True)
class Shares:
    """Shares of what a labeler is given, and the queue's bounds."""

    uniform: float = 0.2
    """Of work: drawn at random among what is open, not by priority."""
    shared: float = 0.1
    """Of everything: calibration items that everyone judges, while there are any."""
    gold: float = 0.05
    """Of everything: items whose answer is known, shown as if they were work."""
    drift: float = 0.02
    """Of everything: the fixed pairs of the drift chart."""
    kind_weights: Mapping[str, float] = field(default_factory=dict)
    """By task kind, how often it comes beside the others; 1 where not given; 0: only when asked for."""
    reservation_seconds: float = 3600.0
    """How long a task is held for a labeler after it was given or its draft last saved."""
    warned_a_day: int = 25
    """Items with a content warning that one labeler gets within 24 hours."""
    halt_after_skips: int = 5
    """Skips after which a task is taken out of the queue for a lead to look at."""

    def __post_init__(self) -> None:
        for name in ("uniform", "shared", "gold", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ContentError(f"queue.{name} is {getattr(self, name)}", hint="a share is between 0 and 1")
        if self.shared + self.gold + self.drift > 1:
            raise ContentError(f"shared, gold and drift add up to {self.shared + self.gold + self.drift:g}",
                               hint="together at most 1; the rest is work")
        for kind, weight in self.kind_weights.items():
            if kind not in schema.KINDS or not 0 <= weight < float("inf"):
                raise ContentError(f"queue.kind_weights.{kind} is {weight}{did_you_mean(kind, schema.KINDS)}",
                                   hint=f"kinds are {', '.join(schema.KINDS)}; a weight is 0 or more")
        if self.reservation_seconds < 60 or self.warned_a_day < 0 or self.halt_after_skips < 1:
            raise ContentError("a bound of the queue is too low",
                               hint="reservation_seconds is 60 or more, warned_a_day 0 or more, halt_after_skips 1 or more")


def shares(conn: Connection) -> Shares:
    """The settings in force."""
    return from_document(content.setting(conn, SETTING))


def set_shares(conn: Connection, **changes: Any) -> Shares:
    """Change some of them. Raises ContentError naming what is out of its range or unknown."""
    known = [one.name for one in fields(Shares)]
    for name in changes:
        if name not in known:
            raise ContentError(f"the queue has no setting {name!r}{did_you_mean(name, known)}", hint=f"it has {', '.join(known)}")
    made = Shares(**asdict(shares(conn)) | changes)
    content.set_setting(conn, SETTING, asdict(made))
    return made


def from_document(document: Mapping[str, Any] | None) -> Shares:
    """The stored document; what it does not name has its default."""
    return Shares(**document) if document else _DEFAULT


_DEFAULT = Shares()
