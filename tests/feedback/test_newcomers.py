"""The screening test in the store: counted with each answer, saved, resumed, decided."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from tests.feedback import few
from tutelage.feedback import newcomers, queue, schema
from tutelage.feedback.errors import ContentError
from tutelage.feedback.screening import Screening
from tutelage.feedback.shares import set_shares


@pytest.fixture
def world(store):
    """Forty screening items whose first answer is right, a task of work, a newcomer and a lead."""
    def make(conn):
        prompt = few.prompt(conn)
        for i in range(40):
            few.task(conn, prompt, [f"a{i}", f"b{i}"], purpose="screening", free=1, overlap=1, expected={"ranks": [0, 1]})
        few.task(conn, prompt, ["a", "b"], free=2)
        return {name: few.labeler(conn, name, role=role, password_hash="x") for name, role in (("nia", "labeler"), ("lea", "lead"))}
    return store.write(make)


def answer(store, who, right: bool):
    """Claim the next item and answer it. Returns its purpose, None where there was nothing."""
    def work(conn):
        claim = queue.claim(conn, who, now=store.now())
        if claim is None:
            return None
        first = claim.sides[0] == 0
        queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=who, value={"choice": 1 if first == right else 8}, now=store.now())
        return claim.purpose
    return store.write(work)


def screening(store, who):
    with store.read() as conn:
        return conn.scalar(select(schema.labelers.c.screening).where(schema.labelers.c.id == who))


def test_who_is_always_right_passes_after_the_items_walds_test_needs_and_then_gets_work(store, world):
    # Each right answer adds ln(.75/.60) = 0.2231 to the log odds; ln(.95/.05) = 2.944 is reached at the 14th.
    nia = world["nia"]
    for asked in range(1, 14):
        assert answer(store, nia, right=True) == "screening"
        assert (screening(store, nia)["state"], screening(store, nia)["test"]["asked"]) == ("new", asked)
    answer(store, nia, right=True)
    assert screening(store, nia) == {"state": "passed", "at": store.now(), "by": None, "test": screening(store, nia)["test"]}
    assert screening(store, nia)["test"]["right"] == 14 and answer(store, nia, right=True) == "work"
    assert screening(store, nia)["test"]["asked"] == 14, "work is not counted"


def test_who_is_always_wrong_is_told_apart_sooner_and_gets_nothing_more(store, world):
    # Each wrong answer takes ln(.40/.25) = 0.47 away; -2.944 is passed at the 7th.
    nia = world["nia"]
    for _ in range(7):
        assert screening(store, nia).get("state", "new") == "new" and answer(store, nia, right=False) == "screening"
    assert screening(store, nia)["state"] == "failed" and answer(store, nia, right=True) is None
    with store.read() as conn:
        assert newcomers.standing_of(conn, nia) == "failed"
        assert conn.execute(select(schema.audit.c.action, schema.audit.c.details)).one() == ("screening failed", {"right": 0, "asked": 7})


def test_a_double_submit_counts_once(store, world):
    def work(conn):
        claim = queue.claim(conn, world["nia"], now=store.now())
        for _ in range(3):
            queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=world["nia"], value={"choice": 1}, now=store.now())
    store.write(work)
    assert screening(store, world["nia"])["test"]["asked"] == 1


def test_when_the_items_run_out_a_lead_decides_and_is_named(store, world):
    nia = world["nia"]
    for i in range(40):
        with store.read() as conn:
            assert newcomers.waiting(conn) == set()
        assert answer(store, nia, right=i % 3 > 0) == "screening"
    assert answer(store, nia, right=True) is None
    with store.read() as conn:
        assert newcomers.standing_of(conn, nia) == "waiting" and newcomers.waiting(conn) == {nia}
        assert [one.state for one in newcomers.newcomers(conn)] == ["waiting"]
    store.write(lambda conn: newcomers.decide(conn, nia, "passed", by_id=world["lea"], now=store.now()))
    with store.read() as conn:
        (found,) = newcomers.newcomers(conn)
        assert (found.state, found.by, found.test.right, found.test.asked, found.right.value) == ("passed", "lea", 26, 40, 0.65)
        assert newcomers.standing_of(conn, nia) is None and newcomers.waiting(conn) == set()
    assert answer(store, nia, right=True) == "work"


def gets_nothing_and_a_lead_is_told(store, who) -> bool:
    nothing = answer(store, who, right=True) is None
    with store.read() as conn:
        told = newcomers.waiting(conn) == {who} and [one.state for one in newcomers.newcomers(conn)] == ["waiting"]
        return nothing and told and newcomers.standing_of(conn, who) == "waiting"


@pytest.mark.parametrize("begun", [0, 3])
def test_who_opted_out_of_all_other_items_waits_for_a_lead(store, world, begun):
    for _ in range(begun):
        answer(store, world["nia"], right=True)
    warn = schema.tasks.update().where(schema.tasks.c.purpose == "screening")
    store.write(lambda conn: conn.execute(warn.values(warnings=" violence ")))
    with store.read() as conn:
        assert newcomers.waiting(conn) == set(), "who opted out of nothing does not"
    store.write(lambda conn: conn.execute(update(schema.labelers).values(settings={"avoid_warnings": ["violence"]})))
    assert gets_nothing_and_a_lead_is_told(store, world["nia"])
    store.write(lambda conn: conn.execute(warn.where(schema.tasks.c.id == 40).values(warnings=" sexual ")))
    with store.read() as conn:
        assert newcomers.waiting(conn) == set(), "there is an item for them again"


def test_what_others_had_of_the_test_is_still_left_for_a_newcomer(store, world):
    late = store.write(lambda conn: few.labeler(conn, "late", password_hash="x"))
    for i in range(40):
        answer(store, world["nia"], right=i % 3 > 0)
    answer(store, late, right=True)
    with store.read() as conn:
        assert newcomers.waiting(conn) == {world["nia"]}
        assert {one.name: one.state for one in newcomers.newcomers(conn)} == {"nia": "waiting", "late": "new"}


def test_who_skipped_every_item_waits_for_a_lead(store, world):
    def skip(conn):
        held = queue.claim(conn, world["nia"], now=store.now())
        queue.skip(conn, assignment_id=held.assignment_id, labeler_id=world["nia"], reason="other", now=store.now())
        return held.purpose
    for _ in range(40):
        with store.read() as conn:
            assert newcomers.waiting(conn) == set()
        assert store.write(skip) == "screening"
    assert gets_nothing_and_a_lead_is_told(store, world["nia"])


@pytest.mark.parametrize("make", [{"kind": "critique", "expected": {"critique": "It lies."}}, {"expected": {"reasons": "none"}}])
def test_items_that_cannot_be_counted_are_no_test(store, world, make):
    # Fourteen items can be enough for a result (above), of those that can be right or wrong.
    rest = schema.tasks.update().where(schema.tasks.c.purpose == "screening")
    store.write(lambda conn: conn.execute(rest.where(schema.tasks.c.id <= 27).values(**make)))
    with store.read() as conn:
        assert newcomers.items(conn) == 13
    assert answer(store, world["nia"], right=True) == "work", "thirteen are too few"
    with store.read() as conn:
        assert newcomers.waiting(conn) == set()


def test_who_has_practice_before_them_or_had_enough_warned_content_today_waits_for_no_lead(store, world):
    everything = schema.tasks.update().where(schema.tasks.c.purpose == "screening")
    store.write(lambda conn: conn.execute(everything.values(warnings=" violence ")))
    store.write(lambda conn: set_shares(conn, warned_a_day=2))
    for _ in range(2):
        assert answer(store, world["nia"], right=True) == "screening"
    assert answer(store, world["nia"], right=True) is None
    with store.read() as conn:
        assert (newcomers.standing_of(conn, world["nia"]), newcomers.waiting(conn)) == (None, set()), "tomorrow there is more"
        assert not newcomers.may_work(conn, world["nia"])
    store.write(lambda conn: conn.execute(update(schema.labelers).values(settings={"avoid_warnings": ["violence"]})))
    store.write(lambda conn: few.task(conn, few.prompt(conn, "p"), ["a", "b"], purpose="practice", free=1, overlap=1))
    with store.read() as conn:
        assert newcomers.waiting(conn) == set()
    assert [answer(store, world["nia"], right=True) for _ in range(2)] == ["practice", None]
    with store.read() as conn:
        assert newcomers.waiting(conn) == {world["nia"]}


def test_who_was_at_work_before_there_was_a_test_stays_at_work(store, world):
    """A lead makes the first test items while people are at work: nobody of them is tested, nobody waits."""
    halted, there = (schema.tasks.update().where(schema.tasks.c.purpose == "screening").values(state=state) for state in ("halted", "open"))
    store.write(lambda conn: conn.execute(halted))
    assert answer(store, world["nia"], right=True) == "work"
    store.write(lambda conn: (conn.execute(there), few.task(conn, few.prompt(conn, "more"), ["a", "b"], free=2)))
    late = store.write(lambda conn: few.labeler(conn, "late", password_hash="x"))
    assert (answer(store, world["nia"], right=True), answer(store, late, right=True)) == ("work", "screening")
    with store.read() as conn:
        assert newcomers.standing_of(conn, world["nia"]) is None and newcomers.waiting(conn) == set()
        assert {one.name: one.state for one in newcomers.newcomers(conn)} == {"nia": "working", "late": "new"}


def test_the_test_is_not_given_before_it_has_items_for_a_result(store, world):
    # Fourteen right answers pass, seven wrong ones fail (above): with thirteen items nobody could pass.
    ids = store.write(lambda conn: list(conn.scalars(select(schema.tasks.c.id).where(schema.tasks.c.purpose == "screening"))))
    halt = schema.tasks.update().where(schema.tasks.c.id.in_(ids[13:])).values(state="halted")
    store.write(lambda conn: conn.execute(halt))
    with store.read() as conn:
        assert newcomers.test_now(conn).enough == 14 and newcomers.standing_of(conn, world["nia"]) is None
    late = store.write(lambda conn: few.labeler(conn, "late", password_hash="x"))
    assert answer(store, late, right=True) == "work"
    store.write(lambda conn: conn.execute(schema.tasks.update().where(schema.tasks.c.id == ids[13]).values(state="open")))
    assert answer(store, world["nia"], right=True) == "screening"
    store.write(lambda conn: conn.execute(halt))
    assert answer(store, world["nia"], right=True) == "screening", "who has begun goes on"


@pytest.mark.parametrize(("good", "poor", "at_most", "enough"), [(0.75, 0.6, 160, 14), (0.75, 0.6, 10, 10), (0.3, 0.1, 160, 12)])
def test_how_many_items_can_be_enough(good, poor, at_most, enough):
    # ln 19 = 2.944; all right: ln(.75/.6) = 0.223 each, 13.2 of them; all wrong, of 30% and 10%: ln(.9/.7) = 0.2513 each, 11.7 of them.
    assert Screening(good=good, poor=poor, at_most=at_most).enough == enough


def test_an_item_without_a_known_answer_is_not_counted(store, world):
    store.write(lambda conn: conn.execute(schema.tasks.update().values(expected={"reasons": "none"})))
    answer(store, world["nia"], right=True)
    assert screening(store, world["nia"]) == {}


def test_the_test_is_changed_for_those_who_have_not_begun(store, world):
    answer(store, world["nia"], right=True)
    store.write(lambda conn: newcomers.set_test(conn, good=0.9, poor=0.5, at_most=20, by_id=world["lea"], now=1.0))
    answer(store, world["nia"], right=True)
    late = store.write(lambda conn: few.labeler(conn, "late", password_hash="x"))
    with store.read() as conn:
        tests = {one.id: one.test for one in newcomers.newcomers(conn)}
    assert (tests[world["nia"]].good, tests[world["nia"]].right, tests[late].good, tests[late].at_most) == (0.75, 2, 0.9, 20)
    for numbers in ((0.5, 0.6, 20), (0.8, 0.5, 0), (0.8, 0.5, 501), (0.8, 0.5, 1_600_000), (1.5, 0.5, 20), (float("nan"), 0.5, 20)):
        given = dict(zip(("good", "poor", "at_most"), numbers, strict=True))
        with pytest.raises(ContentError):
            store.write(lambda conn, given=given: newcomers.set_test(conn, by_id=world["lea"], now=1.0, **given))


def test_a_stored_test_that_is_too_long_is_read_as_the_longest_and_who_was_in_the_middle_of_one_goes_on(store, world):
    too_long = {"good": 0.75, "poor": 0.74, "at_most": 1_600_000}
    answer(store, world["nia"], right=True)
    store.write(lambda conn: newcomers.set_setting(conn, "screening", too_long))
    store.write(lambda conn: conn.execute(update(schema.labelers).where(schema.labelers.c.id == world["nia"]).values(
        screening={"state": "new", "test": too_long | {"right": 420, "asked": 540}})))
    answer(store, world["nia"], right=True)
    with store.read() as conn:
        assert newcomers.test_now(conn).at_most == 500
        [nia] = newcomers.newcomers(conn)
    assert (nia.test.asked, nia.test.at_most, nia.state) == (541, 541, "passed")


def test_what_a_newcomer_skips_counts_nowhere_and_is_told(store, world):
    answer(store, world["nia"], right=True)
    held = store.write(lambda conn: queue.claim(conn, world["nia"], now=store.now()))
    gives_back = {"assignment_id": held.assignment_id, "labeler_id": world["nia"], "reason": "knowledge", "now": store.now()}
    store.write(lambda conn: queue.skip(conn, **gives_back))
    with store.read() as conn:
        found = {one.id: one for one in newcomers.newcomers(conn)}[world["nia"]]
    assert (found.test.asked, found.skipped) == (1, 1)


def test_which_groups_it_removes(store, world):
    def make(conn):
        for i in range(24):
            test = newcomers.test_now(conn).to_json() | {"right": 7, "asked": 10}
            few.labeler(conn, f"n{i}", group="north" if i % 2 else "south", password_hash="x",
                        screening={"state": "passed" if i % 2 or i < 2 else "failed", "test": test}, disabled_at=None if i % 3 else 1.0)
        begun = {"state": "new", "test": newcomers.test_now(conn).to_json() | {"right": 3, "asked": 5}}
        few.labeler(conn, "begun", group="south", password_hash="x", screening=begun)
        few.labeler(conn, "never asked", group="east", password_hash="x", screening={"state": "passed"})
    store.write(make)
    with store.read() as conn:
        found = {one.group: one for one in newcomers.groups_passed(conn)}
    assert set(found) == {"north", "south"}
    assert found["south"].passed.n == 12, "who failed and was sent away was removed all the same"
    assert found["north"].passed.value == 1.0 and found["south"].passed.value == pytest.approx(1 / 12) and found["south"].flagged


def test_unknown_people_and_verdicts_are_refused(store, world):
    for who, state in ((world["nia"], "new"), (world["lea"], "failed"), (999, "passed")):
        with pytest.raises(ContentError):
            store.write(lambda conn, w=who, s=state: newcomers.decide(conn, w, s, by_id=world["lea"], now=1.0))
