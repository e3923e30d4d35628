"""What waits for whoever looks at a page: a lead's inbox, a labeler's answers. Templates ask for it as `news()`, once a page."""

from __future__ import annotations

from typing import NamedTuple

from tutelage.feedback.accounts import Session
from tutelage.feedback.guidelines import version_in_force
from tutelage.feedback.newcomers import waiting
from tutelage.feedback.reports import new_answers, open_reports
from tutelage.feedback.store import Store

SEEN = "answers_seen_at"
"""The setting of a person that says until when they have read what leads answered."""


GUIDELINES = "guidelines_seen"
"""The setting that says which version of the guidelines they have opened last."""


class News(NamedTuple):
    """inbox: reports and questions that wait for a lead, newcomers: people who do; 0 for others. answers: to one's own, not yet read.

    guidelines: the version in force, where another one was opened last; None for who never opened any.
    """

    inbox: int
    newcomers: int
    answers: int
    guidelines: str | None


def news_of(store: Store, session: Session) -> News:
    """What is new for somebody."""
    seen = session.settings.get(GUIDELINES)
    with store.read() as conn:
        version = version_in_force(conn) if seen is not None else None
        inbox, newcomers = (open_reports(conn), len(waiting(conn))) if session.may("lead") else (0, 0)
        return News(inbox, newcomers, new_answers(conn, session.labeler_id, since=session.settings.get(SEEN, 0.0)),
                    version if version != seen else None)
