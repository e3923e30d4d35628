"""Export: who may be known outside, what must not leave, and what a file is refused for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from tutelage.base.errors import ConfigError
from tutelage.feedback import schema
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.exporting import FORMS, export
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.store import Store
from tutelage.text.feedback import read_feedback

ANN = {"prompt": [{"role": "user", "content": "hi"}], "responses": ["yes", "no"], "ranks": [0, 1], "labeler": "ann@example.org"}
BO = ANN | {"labeler": "bo@example.org", "ranks": [1, 0]}
LABEL = {"prompt": ANN["prompt"], "completion": "yes", "label": True, "labeler": "ann@example.org"}


def fill(store: Store, tmp_path: Path, *rows: dict, **options) -> Store:
    for number, row in enumerate(rows):
        path = tmp_path / f"in{number}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        import_files(store, path, **options)
    return store


def exported(store: Store, out: Path, to: str = "judgements", **options) -> list[dict]:
    export(store, out, to, **options)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_people_leave_under_pseudonyms_that_stay_the_same_and_differ_between_stores(fresh, tmp_path):
    here, other = (fill(fresh(), tmp_path, ANN, BO) for _ in range(2))
    first, again, elsewhere = (exported(store, tmp_path / f"{n}.jsonl") for n, store in enumerate((here, here, other)))
    names = [row["labeler"] for row in first]
    assert names == [row["labeler"] for row in again] and len({*names}) == 2
    assert not {*names} & {row["labeler"] for row in elsewhere} and "example.org" not in json.dumps(first)
    assert [row["labeler"] for row in exported(here, tmp_path / "named.jsonl", names=True)] == ["ann@example.org", "bo@example.org"]


def test_a_customer_s_id_is_a_pseudonym_too(fresh, tmp_path):
    store = fill(fresh(), tmp_path, ANN | {"user": "customer 7"})
    [row] = exported(store, tmp_path / "a.jsonl")
    assert row["user"].startswith("person-") and "customer 7" not in json.dumps(row)


@pytest.mark.parametrize("to", FORMS)
def test_who_judged_and_whose_prompt_it_is_come_back_from_every_format_as_two_people(fresh, tmp_path, to):
    asked = {"user": "cust-7", "language": "de"}
    out, there = tmp_path / f"out{FORMS[to].files[0]}", fresh()
    export(fill(fresh(), tmp_path, ANN | asked, BO | asked), out, to, names=True)
    import_files(there, out)
    with there.read() as conn:
        people = {*conn.execute(select(schema.labelers.c.name)).scalars()}
        [prompt] = conn.execute(select(schema.prompts.c.user, schema.prompts.c.language))
    assert people == {"ann@example.org", "bo@example.org"}
    assert [*prompt] == [None if "user" in FORMS[to].leaves else "cust-7", "en" if "language" in FORMS[to].leaves else "de"]


def test_what_was_retracted_or_erased_or_has_no_consent_stays(fresh, tmp_path):
    third = BO | {"prompt": [{"role": "user", "content": "secret"}]}
    store = fill(fresh(), tmp_path, ANN, BO, third, third | {"prompt": [{"role": "user", "content": "private"}]})

    def work(conn) -> None:
        conn.execute(insert(schema.retractions).values(judgement_id=1, reason="undone", created_at=1.0))
        conn.execute(update(schema.judgements).where(schema.judgements.c.id == 2).values(value=None))
        conn.execute(update(schema.prompts).where(schema.prompts.c.id == 2).values(consent=False))
        conn.execute(update(schema.responses).where(schema.responses.c.prompt_id == 3).values(text=None, erased_at=1.0))

    store.write(work)
    with pytest.raises(ContentError, match="nothing to export") as error:
        export(store, tmp_path / "a.jsonl", "judgements")
    assert all(why in str(error.value) for why in ("1 retracted", "2 erased", "1 prompts without consent"))
    assert not (tmp_path / "a.jsonl").exists()


def test_practice_and_screening_stay_and_do_not_decide_which_type_a_file_for_trl_is(fresh, tmp_path):
    store = fill(fresh(), tmp_path, ANN, LABEL, BO | {"prompt": [{"role": "user", "content": "a test"}]})
    table = schema.tasks
    store.write(lambda conn: conn.execute(update(table).where(table.c.kind == "label").values(purpose="practice")))
    store.write(lambda conn: conn.execute(update(table).where(table.c.prompt_id == 2).values(purpose="screening")))
    done = export(store, tmp_path / "a.jsonl", "trl", everything=True)
    assert (done.judgements, dict(done.skipped)) == (1, {"practice or screening": 2})


def test_no_cell_of_the_table_is_a_formula_and_the_texts_come_back(fresh, tmp_path):
    # OWASP, CSV injection: =, +, -, @, tab and carriage return begin one.
    texts = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\tx", "\rx", "'=x", "-5"]
    rows = [{"prompt": ANN["prompt"], "responses": [text], "kind": "critique", "critique": text, "labeler": text} for text in texts]
    store = fill(fresh(), tmp_path, *rows)
    export(store, tmp_path / "a.csv", "csv", names=True)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")] == ["-5", "-5"]
    back = [item for *_, item in read_feedback(tmp_path / "a.csv")]
    assert [(j.labeler, j.critique, j.responses[0].text) for j in back] == [(text, text, text) for text in texts]


def test_one_file_for_trl_holds_one_type(fresh, tmp_path):
    store = fill(fresh(), tmp_path, ANN, LABEL)
    with pytest.raises(ConfigError, match="there are preference, unpaired rows, and a file for TRL holds one type"):
        export(store, tmp_path / "a.jsonl", "trl")
    [pair], [label] = (exported(store, tmp_path / f"{kind}.jsonl", "trl", kinds=[kind]) for kind in ("comparison", "label"))
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"], label["label"]) == ("yes", "no", True)


def test_several_people_s_judgements_of_one_item_are_one_task_of_label_studio(fresh, tmp_path):
    store = fill(fresh(), tmp_path, ANN, BO)
    done = export(store, tmp_path / "a.json", "label-studio", names=True)
    [task] = json.loads((tmp_path / "a.json").read_text())
    assert (done.rows, done.judgements) == (1, 2) and task["data"] == {"prompt": "hi", "answer1": "yes", "answer2": "no"}
    assert [(a["completed_by"], a["result"][0]["value"]) for a in task["annotations"]] == [
        ("ann@example.org", {"selected": "left"}), ("bo@example.org", {"selected": "right"})]


def test_only_one_batch_or_one_kind_is_written_when_asked(fresh, tmp_path):
    store = fill(fill(fresh(), tmp_path, ANN, batch="one"), tmp_path, BO, LABEL, batch="two")
    assert [row["batch"] for row in exported(store, tmp_path / "a.jsonl", batch="one")] == ["one"]
    assert [row["kind"] for row in exported(store, tmp_path / "b.jsonl", kinds=["label"])] == ["label"]


def test_what_a_format_cannot_hold_is_counted_by_reason(fresh, tmp_path):
    store = fill(fresh(), tmp_path, ANN, BO | {"ranks": [0, 0]}, LABEL)
    done = export(store, tmp_path / "a.jsonl", "hh-rlhf")
    assert done.judgements == 1 and done.skipped == {
        "answers are tied, which a chosen and a rejected one cannot say": 1, "a judgement of the kind label, not comparison or ranking": 1}


def test_prompts_that_are_text_to_be_continued_are_refused_with_the_option_that_makes_them_messages(fresh, tmp_path):
    plain = ANN | {"prompt": "hi"}
    with pytest.raises(ContentError, match="raw text to continue") as error:
        export(fill(fresh(), tmp_path, plain), tmp_path / "a.json", "label-studio")
    assert "--prompt-style chat" in error.value.hint
    assert export(fill(fresh(), tmp_path, plain, prompt_style="chat"), tmp_path / "a.json", "label-studio").judgements == 1


@pytest.mark.parametrize("to, out, options, match", [
    ("labelstudio", "a.json", {}, r"no such format \(did you mean label-studio\?\)"), ("csv", "a.json", {}, "unknown form"),
    ("judgements", "there.jsonl", {}, "is already there"), ("judgements", "a.jsonl", {"kinds": ["poem"]}, "no kind of judgement")])
def test_a_wrong_target_is_told_before_anything_is_written(fresh, tmp_path, to, out, options, match):
    (tmp_path / "there.jsonl").write_text("kept")
    with pytest.raises(ConfigError, match=match):
        export(fill(fresh(), tmp_path, ANN), tmp_path / out, to, **options)
    assert (tmp_path / "there.jsonl").read_text() == "kept" and not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("to", FORMS)
def test_every_format_says_what_it_has_no_place_for(to):
    page = (Path(__file__).parents[3] / "docs" / "feedback-files.md").read_text(encoding="utf-8")
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{to}` |")]
    assert all(name in row for name in FORMS[to].leaves), [name for name in FORMS[to].leaves if name not in row]
