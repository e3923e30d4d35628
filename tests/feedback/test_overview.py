"""What the quality page tells, on stores small enough for a pencil, and on the panel of the embedded world."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.demo.at_work import simulate
from tutelage.demo.tasks import fill
from tutelage.feedback import adjudication, schema
from tutelage.feedback.overview import Overview, overview
from tutelage.feedback.standing import moment, read_standing
from tutelage.feedback.stats import stats
from tutelage.feedback.store import Store

DAY = 86400.0
A, B, TIE = {"ranks": [0, 1], "step": 1}, {"ranks": [1, 0], "step": 8}, {"ranks": [0, 0], "tie": True}


def told(store) -> Overview:
    with store.read() as conn:
        return overview(read_standing(conn))


def row_of(found: Overview, name: str):
    return next(row for row in found.labelers if row.person.name == name)


@pytest.fixture
def people(store):
    return store.write(lambda conn: {name: few.labeler(conn, name, role=role, group=group) for name, role, group in (
        ("amara", "labeler", "a"), ("bo", "labeler", "b"), ("eve", "expert", None))})


def judged(store, people, said, *, kind="comparison", texts=("x y", "z"), **task):
    """A task with what each said of it: {name: value} or {name: (value, more)}. Returns its id."""
    def work(conn):
        number = few.task(conn, few.prompt(conn, f"p{said}{task}{moment(conn)}"), texts, kind=kind, **task)
        for name, value in said.items():
            value, more = value if isinstance(value, tuple) else (value, {})
            held = few.put(conn, "assignments", task_id=number, labeler_id=people[name], state="submitted", claimed_at=0.0, expires_at=1.0)
            few.judgement(conn, number, people[name], value, kind=kind, **({"sides": [0, 1], "assignment_id": held} | more))
        return number
    return store.write(work)


def test_each_labeler_has_counts_agreement_and_gold_right(store, people):
    judged(store, people, {"amara": (A, {"seconds": 4.0}), "bo": (B, {"seconds": 7.0}), "eve": (A, {"seconds": 9.0})})
    judged(store, people, {"amara": (A, {"seconds": 8.0}), "bo": A})
    judged(store, people, {"amara": A, "bo": B}, purpose="gold", expected={"ranks": [0, 1], "reasons": "so"})
    found = told(store)
    amara, bo = row_of(found, "amara"), row_of(found, "bo")
    assert (amara.judgements, amara.seconds, bo.seconds) == (3, 6.0, 7.0)
    # Amara's labels: half of (bo, eve) agree with the first, bo with the second, nobody with the third.
    assert amara.others.value == pytest.approx((0.5 + 1 + 0) / 3) and amara.experts.value == 1.0 and bo.experts.value == 0.0
    assert (amara.gold.value, bo.gold.value, row_of(found, "eve").gold.why) == (1.0, 0.0, "no gold item")


@pytest.mark.parametrize("overrule", [None, False, True])
def test_what_an_expert_adjudicated_counts_as_said_of_the_same_item(store, people, overrule):
    task = judged(store, people, {"amara": A, "bo": B})
    (item,) = store.write(lambda conn: adjudication.send(conn, [task], by_id=people["eve"], now=1.0))
    store.write(lambda conn: few.judgement(conn, item, people["eve"], A))
    if overrule is not None:
        store.write(lambda conn: adjudication.settle(conn, item, overrule=overrule, by_id=people["eve"], now=2.0))
    judged(store, people, {"bo": A})
    found = told(store)
    amara, bo, eve = (row_of(found, name) for name in ("amara", "bo", "eve"))
    assert (amara.experts.value, amara.experts.n, bo.experts.value, bo.experts.n) == (1.0, 1, 0.0, 1), "what it overruled too"
    assert amara.others.value == (None if overrule else 0.0) and eve.others.value is None, "agreement among labelers stays their own"


def test_what_was_taken_back_erased_or_practised_does_not_count(store, people):
    kept = judged(store, people, {"amara": A, "bo": B})
    judged(store, people, {"amara": A}, purpose="practice"), judged(store, people, {"bo": A}, purpose="screening")
    judged(store, people, {"eve": None})
    with store.read() as conn:
        before = moment(conn)
    second = store.write(lambda conn: few.judgement(conn, kept, people["eve"], A, sides=[0, 1]))
    store.write(lambda conn: few.put(conn, "retractions", judgement_id=second, reason="undone", created_at=few.AT))
    with store.read() as conn:
        standing, after = read_standing(conn), moment(conn)
        counts = stats(conn, resamples=0)
    assert [(one.task, standing.people[one.labeler].name) for one in standing.said] == [(kept, "amara"), (kept, "bo")]
    assert (counts["judgements"], counts["practice_and_screening"]) == (2, 2)
    assert before != after == standing.moment


def test_the_page_and_the_command_line_tell_the_same_agreement(store, people):
    for i in range(6):
        judged(store, people, {"amara": A, "bo": A if i % 3 else TIE, "eve": B if i == 1 else A}, batch="first")
        judged(store, people, {"amara": {"rating": 1 + i, "flags": []}, "bo": {"rating": 7 - i, "flags": []}}, kind="rating", texts=("x",))
        judged(store, people, {"amara": A, "bo": B}, batch="first", purpose=("practice", "screening")[i % 2])
    with store.read() as conn:
        said = {(row["batch"], row["kind"]): row for row in stats(conn, resamples=500)["agreement"]}
    found = told(store).agreements
    assert {(row.batch, row.kind) for row in found} == said.keys() == {("first", "comparison"), ("", "rating")}
    for row in found:
        assert {name: (s.value, s.low, s.high) for name, s in row.found.items()} == {
            name: (s["value"], s["low"], s["high"]) for name, s in said[row.batch, row.kind].items() if isinstance(s, dict)}


def test_agreement_is_told_by_the_newest_scores_margin(store, people):
    tasks = [judged(store, people, {"amara": A, "bo": A if 4 <= i < 8 else B}) for i in range(9)]

    def score(conn):
        for i, task in enumerate(tasks[:8]):                          # i apart by the newer model, all alike by the older one
            first, second = conn.scalar(select(schema.tasks.c.response_ids).where(schema.tasks.c.id == task))
            for model, at, when in (("new", (5.0, 5.0 - i), 9.0), ("old", (0.0, 0.0), 0.0)):   # rows written over
                for response, number in zip((first, second), at, strict=True):
                    few.put(conn, "scores", response_id=response, model=model, score=number, created_at=few.AT + when)
    assert told(store).difficulty == []
    store.write(score)
    found = told(store).difficulty
    assert [(row.low, row.high, row.items, row.raw.value) for row in found] == [(0, 1, 2, 0), (2, 3, 2, 0), (4, 5, 2, 1), (6, 7, 2, 1)]


def test_an_item_agrees_on_the_day_of_its_last_label(store, people):
    midnight = few.AT // DAY * DAY
    for day, values in ((0, (A, A)), (2, (A, B))):
        judged(store, people, {"amara": (values[0], {"created_at": midnight + 60}),
                               "bo": (values[1], {"created_at": midnight + day * DAY + 120})})
    periods = told(store).periods
    assert [((p.start - midnight) / DAY, p.labels, p.raw.value) for p in periods] == [(0, 2, 1.0), (2, 2, 0.0)]
    judged(store, people, {"amara": (A, {"created_at": midnight + 70 * DAY}), "bo": (A, {"created_at": midnight + 70 * DAY})})
    assert {p.seconds for p in told(store).periods} == {7 * DAY}


def test_drift_is_of_fixed_pairs_alone_and_names_who_drifts(store, people):
    for week in range(8):
        for _ in range(8):
            at = {"created_at": few.AT + week * DAY}
            judged(store, people, {"amara": (A if week < 4 else B, at), "bo": (A if _ % 2 else B, at)}, purpose="drift")
            judged(store, people, {"eve": (B if week < 4 else A, at)})
    found = told(store)
    assert [won.value for _, won in found.drift.periods] == [0.75] * 4 + [0.25] * 4 and found.drift.flagged and found.drift.z < 0
    assert [flag.check for flag in row_of(found, "amara").flags].count("drift") == 1
    assert "drift" not in [flag.check for flag in row_of(found, "bo").flags]


@pytest.mark.parametrize("imported", [False, True])
def test_a_side_a_rush_and_a_straight_line_are_flagged_where_they_are(store, people, imported):
    of_file = {"assignment_id": None} if imported else {}             # whose order and sides nobody drew
    for i in range(40):
        right, sides = (A, B)[i % 2], [[0, 1], [1, 0]][i // 2 % 2]      # the better answer is left in half of them
        lefts = (A, B)[sides[0]]
        judged(store, people, {"amara": (right, {"sides": sides, "seconds": 60.0}), "eve": (right, {"sides": sides, "seconds": 60.0}),
                               "bo": (lefts, {"sides": sides, "seconds": 0.5} | of_file)}, texts=("word " * 20, "word " * 20))
    found = told(store)
    assert {flag.check for flag in row_of(found, "bo").flags} == ({"speed"} if imported else {"sides", "speed", "lines"})
    assert row_of(found, "amara").flags == () == row_of(found, "eve").flags and found.labelers[0].person.name == "bo"


def test_who_votes_against_everybody_between_two_models_is_found_and_counts_less(store, people):
    def work(conn):
        for i in range(30):
            prompt, models = few.prompt(conn, f"q{i}"), ("old", "new")[::(-1) ** i]
            ids = [few.put(conn, "responses", prompt_id=prompt, text="x", model=model, created_at=few.AT) for model in models]
            number = few.put(conn, "tasks", kind="comparison", prompt_id=prompt, response_ids=ids, overlap=3, free=0, created_at=few.AT)
            new_won = (A, B)[i % 2 == 0]
            for name in people:
                few.judgement(conn, number, people[name], (A if new_won is B else B) if name == "bo" else new_won)
    store.write(work)
    assert {row.person.name: {flag.check for flag in row.flags} for row in told(store).labelers} == {
        "bo": {"votes", "skill"}, "amara": set(), "eve": set()}


def test_a_copied_demonstration_is_shown_with_what_it_repeats(store, people):
    source = "The cat sat on the mat and looked at the moon over the garden."
    def work(conn):
        prompt = few.prompt(conn, "about the cat")
        few.put(conn, "responses", prompt_id=prompt, text=source, model="m", created_at=few.AT)
        for name, text in (("amara", "Cats sit wherever they please, mostly in the sun."), ("bo", source.upper())):
            few.judgement(conn, few.put(conn, "tasks", kind="demonstration", prompt_id=prompt, response_ids=[], overlap=1, free=0,
                                        created_at=few.AT), people[name], {"text": text}, kind="demonstration")
    store.write(work)
    found = told(store)
    assert [(one.value["text"], repeated) for one, repeated in found.copies] == [(source.upper(), source)]
    assert [(flag.check, flag.said) for flag in row_of(found, "bo").flags] == [("copies", {"count": 1})]


def test_an_empty_store_has_nothing_wrong_with_it(store):
    found = told(store)
    assert (found.judgements, found.labelers, found.agreements, found.drift) == (0, [], [], "no judgements of fixed pairs")


def test_the_panels_careless_labeler_is_flagged_for_haste_and_nobody_else_is(tmp_path):
    # falk takes 2.5 s an answer of some 25 words, the others 11 s and more. Other checks have false alarms, by design, in 5%.
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: fill(conn, 0, store.now()))
        simulate(store)
        found = told(store)
    assert [row.person.name for row in found.labelers if "speed" in [flag.check for flag in row.flags]] == ["falk"]
