"""Where newcomers stand in the screening test: counted with each answer, decided by the test, or by a lead where it cannot be.

A labeler's `screening` is {"state": "new" | "passed" | "failed"}, with {"test": the sequential test as it stands} from its first item on
(`feedback.screening`), and {"at", "by"} of the decision; by is null where the test decided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, exists, func, or_, select, true, update

from .content import is_unwanted, record_audit, set_setting, setting
from .errors import ContentError
from .intervals import Statistic, share
from .schema import assignments, labelers, tasks
from .screening import MOST_ITEMS, GroupPassed, Screening, passed_by_group
from .standing import MEASURING
from .values import KNOWN_BY, agrees

SETTING = "screening"
DECIDED = ("passed", "failed")
_ORDER = ("waiting", "new", "working", *DECIDED)
_ACCOUNTS = and_(labelers.c.role == "labeler", labelers.c.password_hash.is_not(None), labelers.c.disabled_at.is_(None))
_UNDECIDED = and_(_ACCOUNTS, func.coalesce(labelers.c.screening["state"].as_string(), "new").not_in(DECIDED))
_OPEN = and_(tasks.c.state == "open", tasks.c.free > 0)
_COUNTABLE = and_(_OPEN, tasks.c.purpose == "screening", or_(*(
    and_(tasks.c.kind == kind, tasks.c.expected[name].as_string().is_not(None)) for kind, name in KNOWN_BY.items())))
_BEFORE_WORK = and_(_OPEN, tasks.c.purpose.in_(MEASURING))            # what the queue gives to who is not screened, countable or not
_HAD = exists().where(assignments.c.task_id == tasks.c.id, assignments.c.labeler_id == labelers.c.id,
                      assignments.c.state.not_in(("reserved", "expired"))).correlate(tasks, labelers)
_AT_WORK = exists(select(assignments.c.id).join(tasks, tasks.c.id == assignments.c.task_id).where(
    assignments.c.labeler_id == labelers.c.id, assignments.c.state == "submitted", tasks.c.purpose.not_in(MEASURING)).correlate(labelers))


class Newcomer(NamedTuple):
    """state: new, passed or failed; waiting: nothing of the test is left for them; working: at work without a test, which came later.

    right: share of the test's items so far. skipped: items of it they gave back, which count nowhere. by: the lead who decided; None:
    the test, or nobody yet.
    """

    id: int
    name: str
    group: str | None
    state: str
    test: Screening
    right: Statistic
    skipped: int
    at: float | None
    by: str | None


def count_answer(conn: Connection, labeler_id: int, *, kind: str, value: Mapping[str, Any], expected: Mapping[str, Any] | None,
                 now: float) -> str:
    """Count an answer to a screening item. Returns the state after it. Where nothing is known to be right, nothing is counted."""
    standing = dict(conn.scalar(select(labelers.c.screening).where(labelers.c.id == labeler_id)) or {})
    correct = agrees(kind, value, expected or {})
    state = str(standing.get("state", "new"))
    if correct is None or state in DECIDED:
        return state
    test = _test(standing, test_now(conn)).answered(correct)
    state = {"pass": "passed", "fail": "failed", "continue": "new"}[test.decision]
    standing = {"state": state, "test": test.to_json()} | ({"at": now, "by": None} if state in DECIDED else {})
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(screening=standing))
    if state in DECIDED:
        record_audit(conn, action=f"screening {state}", now=now, subject=f"labeler {labeler_id}", right=test.right, asked=test.asked)
    return state


def decide(conn: Connection, labeler_id: int, state: str, *, by_id: int, now: float) -> None:
    """A lead lets a newcomer in, or does not, whatever the test says. Raises: ContentError for an unknown state or labeler."""
    if state not in DECIDED:
        raise ContentError(f"state is {state!r}", hint=f"one of {', '.join(DECIDED)}")
    standing = conn.scalar(select(labelers.c.screening).where(labelers.c.id == labeler_id, labelers.c.role == "labeler"))
    if standing is None:
        raise ContentError("there is no such labeler")
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(screening={**standing, "state": state, "at": now, "by": by_id}))
    record_audit(conn, action=f"screening {state}", now=now, actor_id=by_id, subject=f"labeler {labeler_id}", before=standing.get("state"))


def standing_of(conn: Connection, labeler_id: int) -> str | None:
    """Why a labeler has no work: `failed`, `waiting` for a lead after a test whose items ran out, or None: another reason."""
    state = conn.scalar(select(labelers.c.screening["state"].as_string()).where(labelers.c.id == labeler_id, labelers.c.role == "labeler"))
    return "failed" if state == "failed" else "waiting" if labeler_id in waiting(conn) else None


def may_work(conn: Connection, labeler_id: int) -> bool:
    """Whether neither the test nor its verdict stands before a labeler's work."""
    row = conn.execute(select(labelers.c.role, labelers.c.screening).where(labelers.c.id == labeler_id)).one()
    standing = row.screening or {}
    state = standing.get("state", "new")
    if row.role != "labeler" or state == "passed":
        return True
    return state != "failed" and not is_tested(conn, labeler_id, begun="test" in standing)


def is_tested(conn: Connection, labeler_id: int, *, begun: bool) -> bool:
    """Whether the test stands before work, for somebody without a verdict. begun: they have answered items of it.

    It is given from when it has enough items to end either way, and never to who was given work before that.
    """
    there = items(conn)
    return there > 0 and (begun or there >= test_now(conn).enough) and not _at_work(conn, labeler_id)


def practice_waits(conn: Connection) -> bool:
    """Whether there are practice items, which every new labeler is given first."""
    found = select(exists().where(tasks.c.purpose == "practice", _OPEN))
    return bool(conn.scalar(found))


def waiting(conn: Connection) -> set[int]:
    """Who has no verdict and no item left that they could be given, and so waits for a lead.

    They have answered the others, skipped them or opted out of their content. Every page of a lead asks: four statements at most.
    """
    there = items(conn)
    if not there:
        return set()
    warned = select(tasks.c.warnings).where(_BEFORE_WORK).distinct().subquery()
    a_fresh_one = exists(select(tasks.c.id).where(_BEFORE_WORK, tasks.c.warnings == warned.c.warnings, ~_HAD).correlate(labelers, warned))
    left: dict[int, list[str]] = defaultdict(list)
    pairs = select(labelers.c.id, warned.c.warnings).select_from(labelers.join(warned, true())).where(_UNDECIDED, a_fresh_one)
    for labeler_id, warnings in conn.execute(pairs):
        left[labeler_id].append(warnings)
    all_begin = there >= test_now(conn).enough
    rows = conn.execute(select(labelers.c.id, labelers.c.screening, labelers.c.settings).where(_UNDECIDED, ~_AT_WORK))
    return {row.id for row in rows if (all_begin or "test" in (row.screening or {}))
            and all(is_unwanted(warnings, row.settings or {}) for warnings in left[row.id])}


def newcomers(conn: Connection) -> list[Newcomer]:
    """Everybody with an account who is or was to be screened, those without a verdict first."""
    leads = labelers.alias()
    default = test_now(conn)
    wait, working = waiting(conn), set(conn.scalars(select(labelers.c.id).where(_UNDECIDED, _AT_WORK)))
    rows = conn.execute(select(labelers.c.id, labelers.c.name, labelers.c.group, labelers.c.screening).where(_ACCOUNTS)
                        .order_by(func.lower(labelers.c.name))).all()
    names = {row.id: row.name for row in conn.execute(select(leads.c.id, leads.c.name))}
    skips = {row[0]: int(row[1]) for row in conn.execute(
        select(assignments.c.labeler_id, func.count()).join(tasks, tasks.c.id == assignments.c.task_id)
        .where(assignments.c.state == "skipped", tasks.c.purpose == "screening").group_by(assignments.c.labeler_id))}
    found = []
    for row in rows:
        standing = row.screening or {}
        test = _test(standing, default)
        state = standing.get("state", "new")
        if state not in DECIDED:
            state = "waiting" if row.id in wait else "working" if row.id in working else state
        found.append(Newcomer(row.id, row.name, row.group, state, test, share(test.right, test.asked, what="items"),
                              skips.get(row.id, 0), standing.get("at"), names.get(standing.get("by"))))
    return sorted(found, key=lambda one: (_ORDER.index(one.state)))


def groups_passed(conn: Connection) -> list[GroupPassed]:
    """Which groups the test removes, of those who have taken it to a verdict, whatever became of their account; "" is no group."""
    found = [(row.group or "", row.screening["state"] == "passed") for row in conn.execute(select(labelers.c.group, labelers.c.screening))
             if (row.screening or {}).get("state") in DECIDED and row.screening.get("test", {}).get("asked")]
    return passed_by_group([passed for _, passed in found], [group for group, _ in found])


def test_now(conn: Connection) -> Screening:
    """The test that newcomers begin now, nothing answered."""
    return Screening.from_json(setting(conn, SETTING, {}))


def set_test(conn: Connection, *, good: float, poor: float, at_most: int, by_id: int, now: float) -> None:
    """Change the test for those who have not begun. Raises: ContentError for numbers that tell nobody apart."""
    try:
        made = Screening(good=good, poor=poor, at_most=at_most)
    except ValueError as error:
        raise ContentError("no test tells these apart", hint="a poor share of right answers lies below a good one, both between 0 and 1, "
                                                             "and there is at least one item") from error
    if not 1 <= at_most <= MOST_ITEMS:
        raise ContentError(f"a test of at most {at_most:,} items", hint=f"give the most items it may take, from 1 to {MOST_ITEMS}")
    set_setting(conn, SETTING, {"good": made.good, "poor": made.poor, "at_most": made.at_most})
    record_audit(conn, action="screening test", now=now, actor_id=by_id, good=good, poor=poor, at_most=at_most)


def items(conn: Connection) -> int:
    """Screening items that newcomers can be given and that can be counted: of other kinds, and without a known answer, nothing follows."""
    return int(conn.scalar(select(func.count()).select_from(tasks).where(_COUNTABLE)) or 0)


def _at_work(conn: Connection, labeler_id: int) -> bool:
    """Whether they have done anything but practice and test items."""
    return conn.scalar(select(labelers.c.id).where(labelers.c.id == labeler_id, _AT_WORK)) is not None


def _test(standing: Mapping[str, Any], default: Screening) -> Screening:
    return Screening.from_json(standing["test"]) if "test" in standing else default
