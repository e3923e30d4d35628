"""What is frozen, what is left out, and that it never changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update

from tests.feedback.few import AT, QUESTION, judgement, labeler, prompt, put, task
from tutelage.base.errors import ArtifactError, DataError
from tutelage.base.records import Judgement, Message, Response
from tutelage.cli.main import main
from tutelage.feedback import schema
from tutelage.feedback.location import locate
from tutelage.feedback.snapshot import Selection, freeze, open_snapshot, record
from tutelage.lineage.ledger import describe_input
from tutelage.text.readers import expand_files, read_judgements


@pytest.fixture
def conn(address):
    """One transaction that reads and writes, on each database."""
    engine = create_engine(locate(address))
    with engine.begin() as found:
        yield found
    engine.dispose()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "snapshots"


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "judgements.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_row_says_who_what_when_and_why_and_is_read_back_as_a_judgement(conn, folder):
    who = labeler(conn, "amara", group="library")
    asked = task(conn, prompt(conn), ["on the mat", "no idea"], purpose="shared")
    number = judgement(conn, asked, who, {"ranks": [1, 0], "strength": 3, "step": 7}, sides=[1, 0], p_select=0.25, weight=0.5, seconds=7.5,
                       interface_version="1.2")
    snapshot = freeze(conn, folder)
    about = {"judgement": number, "task": asked, "purpose": "shared", "sides": [1, 0], "interface_version": "1.2", "guideline_version": "2",
             "split": "train", "step": 7}
    expected = Judgement((Message("user", "where is the cat?"),), (Response("on the mat"), Response("no idea")), "comparison", ranks=(1, 0),
                         strength=3, labeler="amara", group="library", weight=0.5, p_select=0.25, seconds=7.5,
                         at="2023-11-14T22:13:20+00:00", extra=about)
    assert read_judgements([str(snapshot.path)]).rows == [expected]
    assert rows_of(snapshot.path)[0]["prompt"] == QUESTION


def test_every_kind_of_judgement_is_read_back_with_what_it_says(conn, folder):
    who, asked = labeler(conn, "amara"), prompt(conn)
    said = [("ranking", ["a", "b", "c"], {"ranks": [0, 1, 1], "ratings": [7, None, 3], "flags": [[], ["sexual"], []]}),
            ("rating", ["a"], {"rating": 6, "flags": ["harmful_advice"]}),
            ("label", ["a"], {"label": False}), ("critique", ["a"], {"critique": "too short"}), ("edit", ["a"], {"edit": "a, b"}),
            ("comparison", ["a", "b"], {"both_bad": True})]
    for kind, texts, value in said:
        judgement(conn, task(conn, asked, texts, kind), who, value, kind)
    found = read_judgements([str(freeze(conn, folder).path)]).rows
    assert [j.kind for j in found] == [kind for kind, _, _ in said]
    assert found[0].ranks == (0, 1, 1) and found[0].extra["ratings"] == [7, None, 3] and found[0].extra["flags"][1] == ["sexual"]
    assert found[1].rating == 6 and found[1].extra["flags"] == ["harmful_advice"]
    assert found[2].label is False and found[3].critique == "too short" and found[4].edit == "a, b"
    assert found[5].ranks == (0, 0) and found[5].extra["both_bad"] is True


def test_what_was_taken_back_erased_or_not_allowed_is_left_out_and_counted(conn, folder):
    who, gone = labeler(conn, "amara"), labeler(conn, "bo", erased_at=AT)
    asked = prompt(conn)
    pair = {"ranks": [0, 1]}
    kept = judgement(conn, task(conn, asked, ["a", "b"]), who, pair)
    undone = judgement(conn, task(conn, asked, ["a", "b"]), who, pair)
    put(conn, "retractions", judgement_id=undone, reason="undone", created_at=AT)
    judgement(conn, task(conn, asked, ["a", "b"]), gone, pair)
    judgement(conn, task(conn, asked, ["a", "b"]), who, None)
    judgement(conn, task(conn, prompt(conn, None, erased_at=AT), ["a", "b"]), who, pair)
    blank = task(conn, asked, ["a", "b"])
    judgement(conn, blank, who, pair)
    second = conn.execute(select(schema.tasks.c.response_ids).where(schema.tasks.c.id == blank)).scalar()[1]
    conn.execute(update(schema.responses).where(schema.responses.c.id == second).values(text=None))
    judgement(conn, task(conn, prompt(conn, "private", consent=False), ["a", "b"]), who, pair)
    judgement(conn, task(conn, asked, ["a", "b"]), who, {"strength": 2})
    judgement(conn, task(conn, asked, ["a", "b"]), who, {"ranks": [0]})
    if conn.dialect.name == "sqlite":                                # PostgreSQL holds no half of a surrogate pair
        judgement(conn, task(conn, asked, ["a", "b"]), who, pair | {"critique": "\ud800"})
    judgement(conn, task(conn, asked, ["a", "b"], purpose="screening"), who, pair)       # not selected, so not counted either
    snapshot = freeze(conn, folder)
    assert [row["judgement"] for row in rows_of(snapshot.path)] == [kept]
    unstorable = {"text that cannot be stored": 1} if conn.dialect.name == "sqlite" else {}
    assert snapshot.counts["left_out"] == unstorable | {
        "retracted": 1, "erased": 4, "prompts without consent": 1, "a comparison without ranks": 1,
        "unusable (1 ranks for 2 responses)": 1}


def test_the_counts_tell_kinds_people_groups_splits_and_versions(conn, folder):
    amara, held = labeler(conn, "amara", group="library"), labeler(conn, "chiyo", held_out=True)
    for who, split, version in ((amara, "train", "1"), (amara, "held_out", "2"), (held, "train", "2")):
        asked = task(conn, prompt(conn, f"{who} {split}?", split=split), ["a", "b"])
        judgement(conn, asked, who, {"ranks": [0, 1]}, guideline_version=version, interface_version="9", created_at=AT + who)
    counts = freeze(conn, folder).counts
    assert counts["judgements"] == 3 and counts["prompts"] == 3
    assert counts["labelers"] == {"amara": 2} and counts["held_out_labelers"] == {"chiyo": 1}
    assert counts["groups"] == {"": 1, "library": 2} and counts["splits"] == {"held_out": 1, "train": 2}
    assert counts["guideline_versions"] == {"1": 1, "2": 2} and counts["interface_versions"] == {"9": 3}
    assert (counts["first"], counts["last"]) == ("2023-11-14T22:13:21+00:00", "2023-11-14T22:13:22+00:00")
    flags = [(row.get("held_out_labeler", False), row["split"]) for row in rows_of(next(folder.iterdir()))]
    assert flags == [(False, "train"), (False, "held_out"), (True, "train")]


def test_a_selection_takes_kinds_purposes_times_and_guidelines(conn, folder):
    who, asked = labeler(conn, "amara"), prompt(conn)
    numbers = [judgement(conn, task(conn, asked, ["a", "b"], purpose=purpose), who, {"ranks": [0, 1]}, created_at=AT + i,
                         guideline_version=str(i)) for i, purpose in enumerate(("work", "gold", "shared", "drift"))]

    def chosen(**selection) -> list[int]:
        return [numbers.index(row["judgement"]) for row in rows_of(freeze(conn, folder, Selection(**selection)).path)]

    assert chosen() == [0, 2] and chosen(purposes=("gold", "work")) == [0, 1]
    assert chosen(before=AT + 2) == [0] and chosen(guideline_versions=("2",)) == [2]
    with pytest.raises(DataError, match="nothing to freeze: no judgement is selected"):
        freeze(conn, folder, Selection(kinds=("rating",)))


def test_the_same_judgements_have_one_hash_and_one_folder_and_a_retraction_makes_another(conn, folder):
    who, asked = labeler(conn, "amara"), prompt(conn)
    numbers = [judgement(conn, task(conn, asked, [f"{i}", "b"]), who, {"ranks": [0, 1]}) for i in range(520)]
    first, again = freeze(conn, folder), freeze(conn, folder, Selection(before=AT + 1))
    rows = (first.path / "judgements.jsonl").read_bytes()
    assert first == again and first.hash == hashlib.sha256(rows).hexdigest() and first.path.name == first.hash[:16]
    assert [row["judgement"] for row in rows_of(first.path)] == numbers
    put(conn, "retractions", judgement_id=numbers[3], reason="undone", created_at=AT)
    assert freeze(conn, folder).hash != first.hash and (first.path / "judgements.jsonl").read_bytes() == rows
    assert sorted(p.name for p in folder.iterdir()) == sorted({first.path.name, freeze(conn, folder).path.name})


def test_the_table_has_one_row_for_a_snapshot_however_often_it_is_frozen(conn, folder):
    judgement(conn, task(conn, prompt(conn), ["a", "b"]), labeler(conn, "amara"), {"ranks": [0, 1]})
    snapshot = freeze(conn, folder)
    assert record(conn, snapshot, now=AT) == record(conn, freeze(conn, folder), now=AT + 5)
    (row,) = conn.execute(select(schema.snapshots)).all()
    assert (row.hash, row.path, row.created_at) == (snapshot.hash, str(snapshot.path), AT) and row.counts == snapshot.counts


def test_a_changed_snapshot_is_refused_by_whoever_opens_or_trains_from_it(conn, folder):
    judgement(conn, task(conn, prompt(conn), ["a", "b"]), labeler(conn, "amara"), {"ranks": [0, 1]})
    frozen = freeze(conn, folder)
    (rows,) = expand_files([str(frozen.path)])
    made_of = describe_input(rows)
    assert rows == frozen.path / "judgements.jsonl" and made_of["snapshot"] == made_of["sha256"] == frozen.hash
    rows.write_text(rows.read_text().replace("[0, 1]", "[1, 0]"))
    with pytest.raises(ArtifactError, match="is not what was frozen"):
        describe_input(rows)
    for call in (lambda: open_snapshot(frozen.path), lambda: freeze(conn, folder)):
        with pytest.raises(ArtifactError, match="damaged, its sha256 is not the one in"):
            call()
    with pytest.raises(ArtifactError, match="holds no snapshot"):
        open_snapshot(folder)


def test_both_databases_give_the_same_bytes(conn, folder):
    # The hash is what this test first found: bytes that change would give every snapshot there is another name.
    who = labeler(conn, "amara", group="home")
    shown = task(conn, prompt(conn), ["on the mat — ok", "no"])
    conn.execute(update(schema.responses).values(model="m", sampling={"top_k": 0, "temperature": 0.7, "max_tokens": 64}))
    judgement(conn, shown, who, {"step": 2, "strength": 3, "ranks": [0, 1], "flags": [["sexual"], []]}, seconds=3.25)
    assert freeze(conn, folder).hash == "bc37d38438d149c714a6251677f9a6e66953f88cde1ac2e424e4a7b74fef3532"


def test_the_command_freezes_a_store_and_names_what_trains_from_it(address, store, tmp_path, capsys):
    def fill(conn) -> None:
        judgement(conn, task(conn, prompt(conn), ["a", "b"]), labeler(conn, "amara"), {"ranks": [0, 1]})

    store.write(fill)
    arguments = ["feedback", "snapshot", "--db", address, "--out", str(tmp_path / "frozen")]
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--json"])
        told = json.loads(capsys.readouterr().out)
        assert end.value.code == 0 and told["judgements"] == 1 and told["labelers"] == {"amara": 1}
        assert rows_of(Path(told["snapshot"]))[0]["ranks"] == [0, 1] and told["snapshot"] in told["next"]
    with store.read() as conn:
        assert [row.hash for row in conn.execute(select(schema.snapshots))] == [told["hash"]]
    for wrong, error in ((["--kind", "comparson"], "did you mean comparison?"), (["--purpose", "golden"], "did you mean gold?"),
                         (["--before", "2020-01-01"], "nothing to freeze: no judgement is selected")):
        with pytest.raises(SystemExit):
            main([*arguments, *wrong])
        assert error in capsys.readouterr().err
