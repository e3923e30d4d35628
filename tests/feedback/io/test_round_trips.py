"""What a store says comes back from every format's file into an empty one, but for what the format is said to have no place for."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from tutelage.feedback import content, schema, values
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.exporting import FORMS, export
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.store import Store

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0") | st.sampled_from("=+-@\t\r\n '\",[{"), min_size=1,
                max_size=10).filter(lambda text: bool(text.strip()))
COUNTS = {"comparison": (2, 2), "ranking": (3, 5), "rating": (1, 1), "label": (1, 1), "critique": (1, 1), "edit": (1, 1),
          "demonstration": (0, 0)}  # a ranking of two is a comparison to other tools
NAMES = ("ann", "bo", "cy")


@dataclass
class Item:
    """A task with what people made of it: labeler -> the page's value, or None for a skip."""

    kind: str
    prompt: Any
    answers: list[tuple[str, str | None]]
    said: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


def page_values(kind: str, count: int) -> st.SearchStrategy[dict[str, Any]]:
    """What a page may send for a task of a kind (docs of feedback.values)."""
    comment = st.fixed_dictionaries({}, optional={"comment": TEXTS})
    of_each = st.fixed_dictionaries({}, optional={
        "ratings": st.lists(st.none() | st.integers(1, 7), min_size=count, max_size=count),
        "flags": st.lists(st.lists(st.sampled_from(values.FLAGS), max_size=2), min_size=count, max_size=count)})
    said = {
        "comparison": st.one_of(st.fixed_dictionaries({"choice": st.integers(1, 8)}, optional={"both_bad": st.just(True)}),
                                st.sampled_from([{"tie": True}, {"both_bad": True}])),
        "ranking": st.fixed_dictionaries({"ranks": st.lists(st.integers(0, 3), min_size=count, max_size=count)},
                                         optional={"all_bad": st.just(True)}),
        "rating": st.fixed_dictionaries({"rating": st.integers(1, 7)}, optional={"flags": st.lists(st.sampled_from(values.FLAGS))}),
        "label": st.fixed_dictionaries({"label": st.booleans()}), "critique": st.fixed_dictionaries({"critique": TEXTS}),
        "edit": st.fixed_dictionaries({"edit": TEXTS}), "demonstration": st.fixed_dictionaries({"text": TEXTS})}[kind]
    parts = (said, comment, of_each) if count > 1 else (said, comment)
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


@st.composite
def items(draw, kinds=tuple(COUNTS)) -> Item:
    kind = draw(st.sampled_from(kinds))
    texts = draw(st.lists(TEXTS, min_size=COUNTS[kind][0], max_size=COUNTS[kind][1], unique=True))
    turns = [{"role": role, "content": draw(TEXTS)} for role in draw(st.sampled_from([("user",), ("user", "assistant", "user")]))]
    said = draw(st.dictionaries(st.sampled_from(NAMES), st.none() | page_values(kind, len(texts)), max_size=3))
    return Item(kind, turns, [(text, draw(st.sampled_from([None, "m"]))) for text in texts], said,
                {"batch": draw(st.sampled_from([None, "first"])), "weight": draw(st.sampled_from([1.0, 0.5])),
                 "p_select": draw(st.sampled_from([1.0, 0.25])), "seconds": draw(st.sampled_from([None, 2.5]))})


def fill(store: Store, found: list[Item]) -> None:
    """Put the items into the store as the queue would have."""
    sides = itertools.cycle(itertools.permutations(range(5)))

    def work(conn) -> None:
        people = {name: content.add_labeler(conn, name=name, now=1.0, group="home" if name == "ann" else None) for name in NAMES}
        for number, item in enumerate(found):
            prompt = content.add_prompt(conn, content=item.prompt, source="demo", now=1.0)
            answers = [content.add_response(conn, prompt_id=prompt, text=text, model=model, now=1.0) for text, model in item.answers]
            task = content.add_task(conn, kind=item.kind, prompt_id=prompt, response_ids=answers, overlap=3, now=1.0,
                                    batch=item.about["batch"])
            for name, value in item.said.items():
                shown = [side for side in next(sides) if side < len(answers)]
                about = {"task_id": task, "labeler_id": people[name], "sides": shown}
                if value is None:
                    conn.execute(insert(schema.assignments).values(**about, state="skipped", claimed_at=5.0, expires_at=6.0, ended_at=6.0))
                else:
                    conn.execute(insert(schema.judgements).values(
                        **about, kind=item.kind, value=values.stored(item.kind, value, shown), created_at=1e9 + number + 0.125,
                        **{part: item.about[part] for part in ("weight", "p_select", "seconds")}))

    store.write(work)


BY_ANSWER = ("ranks", "ratings", "flags")


def described(store: Store, leaves: tuple[str, ...] = (), kinds=tuple(COUNTS)) -> Counter[str]:
    """Everything that people said, whatever the order of tasks and of answers within them; without what a format leaves."""
    said: Counter[str] = Counter()
    with store.read() as conn:
        answers = {row.id: (row.text, None if "model" in leaves else row.model) for row in conn.execute(select(schema.responses))}
        tasks = {row.id: row for row in conn.execute(select(schema.tasks, schema.prompts.c.content).join(schema.prompts))}
        people = {row.id: (row.name, None if "group" in leaves else row.group) for row in conn.execute(select(schema.labelers))}
        for row in conn.execute(select(schema.judgements)):
            task = tasks[row.task_id]
            shown = [answers[i] for i in task.response_ids]
            value = {name: one for name, one in row.value.items() if name not in leaves and one not in ([], False)}
            for name in BY_ANSWER if len(shown) > 1 else ():
                if name in value and any(value[name] if name != "ranks" else [True]):
                    value[name] = sorted(zip(shown, value[name], strict=True), key=repr)
                else:
                    value.pop(name, None)
            value.pop("step", None)                                 # of strength and order
            about = {name: getattr(row, name) for name in ("weight", "p_select", "seconds") if name not in leaves}
            about |= {} if "at" in leaves else {"at": row.created_at}
            about |= {} if "sides" in leaves or not row.sides or len(shown) < 2 else {"sides": [shown[i] for i in row.sides]}
            if task.kind in kinds:
                said[repr((task.kind, task.content, sorted(shown, key=repr), None if "batch" in leaves else task.batch,
                           people[row.labeler_id], sorted(value.items()), sorted(about.items())))] += 1
        for row in conn.execute(select(schema.assignments).where(schema.assignments.c.state == "skipped")):
            task = tasks[row.task_id]
            if "skips" not in leaves and task.kind in kinds:
                shown = sorted((answers[i] for i in task.response_ids), key=repr)
                said[repr((task.kind, task.content, shown, people[row.labeler_id][0]))] += 1
    return said


def there_and_back(fresh, tmp_path, found: list[Item], to: str, **options) -> tuple[Store, Store]:
    here, there = fresh(), fresh()
    fill(here, found)
    out = tmp_path / f"out{FORMS[to].files[0]}"
    out.unlink(missing_ok=True)
    try:
        export(here, out, to, names=True, **options)
    except ContentError:                                            # nothing that this format holds
        return here, there
    done = import_files(there, out)
    assert not done.rejected, done.rejected
    return here, there


SLOWLY = settings(max_examples=15, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("to", ["judgements", "csv", "label-studio", "argilla"])
@SLOWLY
@example([Item("comparison", [{"role": "user", "content": "0"}], [("0", None), ("00", None)], {}, {"batch": None}),
          Item("demonstration", [{"role": "user", "content": "0"}], [], {}, {"batch": None})])   # one file asks for verdicts and for texts
@given(st.lists(items(), min_size=1, max_size=4, unique_by=lambda item: repr((item.kind, item.prompt, item.answers))))
def test_formats_that_hold_every_kind_give_back_all_that_was_said(fresh, tmp_path, to, found):
    here, there = there_and_back(fresh, tmp_path, found, to, everything=True)
    leaves = (*FORMS[to].leaves, "batch") if "batch" in FORMS[to].leaves else FORMS[to].leaves
    assert described(there, leaves) == described(here, leaves)


def plain(found: list[Item]) -> list[Item]:
    """Items that transcripts and trees can hold: no blanks around a text."""
    return [item for item in found if all(m["content"] == m["content"].strip() for m in item.prompt)
            and all(text == text.strip() for text, _ in item.answers)]


@pytest.mark.parametrize("to, kinds", [("oasst", ("comparison", "ranking")), ("arena", ("comparison",))])
@SLOWLY
@given(st.lists(items(kinds=("comparison", "ranking")), min_size=1, max_size=4, unique_by=lambda item: repr((item.prompt, item.answers))))
def test_formats_of_ranked_answers_give_back_who_ranked_what(fresh, tmp_path, to, kinds, found):
    # The Arena needs a name for each model, and gives those without one its own two.
    found = [item for item in found if to != "arena" or (item.kind == "comparison" and all(model for _, model in item.answers))]
    here, there = there_and_back(fresh, tmp_path, found, to)
    leaves = (*FORMS[to].leaves, "skips")
    assert described(there, leaves, kinds) == described(here, leaves, kinds)


def pairs(store: Store) -> Counter[tuple[Any, ...]]:
    """Every pair in which one answer was preferred, and by whom."""
    said: Counter[tuple[Any, ...]] = Counter()
    with store.read() as conn:
        answers = {row.id: row.text for row in conn.execute(select(schema.responses))}
        people = {row.id: row.name for row in conn.execute(select(schema.labelers))}
        query = select(schema.judgements, schema.tasks.c.response_ids, schema.prompts.c.content).select_from(
            schema.judgements.join(schema.tasks).join(schema.prompts, schema.tasks.c.prompt_id == schema.prompts.c.id))
        for row in conn.execute(query):
            ranks = row.value.get("ranks", [])
            for i, j in itertools.permutations(range(len(ranks)), 2):
                if ranks[i] < ranks[j]:
                    said[repr(row.content), answers[row.response_ids[i]], answers[row.response_ids[j]], people[row.labeler_id]] += 1
    return said


def untied(value: dict[str, Any], count: int) -> bool:
    return "choice" in value or len({*value.get("ranks", ())}) == count


@pytest.mark.parametrize("to", ["hh-rlhf", "trl"])
@SLOWLY
@given(st.lists(items(kinds=("comparison", "ranking")), min_size=1, max_size=3, unique_by=lambda item: repr((item.prompt, item.answers))))
def test_pairs_of_untied_judgements_come_back_with_who_preferred_what(fresh, tmp_path, to, found):
    found = plain(found) if to == "hh-rlhf" else found
    for item in found:
        item.said = {name: value for name, value in item.said.items() if value and untied(value, len(item.answers))}
    here, there = there_and_back(fresh, tmp_path, found, to)
    assert pairs(there) == pairs(here)
