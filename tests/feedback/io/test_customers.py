"""Customers' prompts on their way in: masked before anybody sees them, used with consent, at most so many a user, one side a user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from tutelage.feedback import content, schema
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.snapshot import freeze

MAIL = "ada@example.com"


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(prompt: object, user: str | None = "u", consent: object = True, **more) -> dict:
    return {"prompt": prompt, "user": user, "consent": consent} | more


def rows_of(store, table) -> list:
    with store.read() as conn:
        return conn.execute(select(table).order_by(table.c.id)).all()


def take(store, path: Path, **options):
    return import_files(store, [path], source="customer", **{"to_judge": "demonstration"} | options)


def test_no_text_of_a_customer_s_row_is_stored_unmasked(store, tmp_path):
    said = [{"role": "system", "content": f"Write to {MAIL} first."}, {"role": "user", "content": f"I am {MAIL}; is my IP 203.0.113.7?"}]
    row = asked(said, kind="comparison", ranks=[0, 1], labeler="Cy", comment=f"names {MAIL}",
                responses=[{"text": f"Hello {MAIL.upper()}", "logprobs": [-1.0]}, {"text": "Hello", "logprobs": [-2.0]}])
    done = take(store, written(tmp_path / "a.jsonl", row), to_judge=None)
    [prompt], answers, [judgement] = rows_of(store, schema.prompts), rows_of(store, schema.responses), rows_of(store, schema.judgements)
    assert prompt.content == [{"role": "system", "content": "Write to [EMAIL_1] first."},
                              {"role": "user", "content": "I am [EMAIL_1]; is my IP [IP_1]?"}] and prompt.source == "customer"
    assert [(a.text, a.logprobs) for a in answers] == [("Hello [EMAIL_1]", None), ("Hello", [-2.0])]
    assert judgement.value["comment"] == "names [EMAIL_1]" and (done.masked_rows, done.masked) == (1, {"email": 4, "ip": 1})


@pytest.mark.parametrize(("consent", "comes"), [(True, 1), ("yes", 1), (1, 1), ("1", 1), (False, 0), (None, 0), ("no", 0), ("maybe", 0)])
def test_a_customer_s_prompt_comes_in_only_where_its_row_says_that_they_consent(store, tmp_path, consent, comes):
    path = written(tmp_path / "a.jsonl", asked("a prompt of theirs", consent=consent))
    done = take(store, path)
    assert len(rows_of(store, schema.prompts)) == len(rows_of(store, schema.tasks)) == comes
    assert done.left_out == ({} if comes else {"no consent": 1}) and done.num_rejected == 0


def test_of_each_user_at_most_two_hundred_prompts_are_used_however_many_files_they_come_in(store, tmp_path):
    rows = [asked(f"question {n} of theirs", "much") for n in range(230)] + [asked(f"another {n}", "little") for n in range(5)]
    first = take(store, written(tmp_path / "a.jsonl", *rows[:150], *rows[230:]))
    again = take(store, written(tmp_path / "b.jsonl", *rows))
    users = [row.user for row in rows_of(store, schema.prompts)]
    assert users.count("much") == 200 and users.count("little") == 5
    assert first.left_out == {} and again.left_out == {"beyond the user's share": 30}


def test_prompts_cut_from_one_conversation_come_in_once_and_a_later_file_does_not_add_another(store, tmp_path):
    long = "Please help me with this very long story about a boat, a lake, two brothers and the storm that came over them at noon. "
    rows = [asked(long + end, user) for end, user in (("Begin.", "a"), ("Go on.", "b"), ("End it.", "c"))]
    done = take(store, written(tmp_path / "a.jsonl", *rows))
    assert len(rows_of(store, schema.prompts)) == 1 and done.left_out == {"shares a long prefix": 2}
    assert take(store, written(tmp_path / "b.jsonl", *rows, asked(long + "Anew.", "d"))).left_out == {"shares a long prefix": 3}
    assert len(rows_of(store, schema.prompts)) == 1


def test_a_user_stays_on_one_side_also_in_later_files_and_the_held_out_side_is_about_a_tenth(store, tmp_path):
    rows = [asked(f"prompt {n} from user {user}", f"user {user}") for user in range(200) for n in range(3)]
    take(store, written(tmp_path / "a.jsonl", *rows[::3]))
    take(store, written(tmp_path / "b.jsonl", *rows))
    sides: dict[str, set[str]] = {}
    for row in rows_of(store, schema.prompts):
        sides.setdefault(row.user, set()).add(row.split)
    assert all(len(side) == 1 for side in sides.values()) and len(sides) == 200
    assert 8 <= sum(side == {"held_out"} for side in sides.values()) <= 36                         # of 200 at 0.1: within 4 deviations


def test_held_out_customers_are_the_snapshot_s_held_out_side(store, tmp_path):
    rows = [asked(f"what about {n}?", f"user {n}", kind="label", label=True, labeler="Cy", responses=[{"text": "yes"}]) for n in range(60)]
    take(store, written(tmp_path / "a.jsonl", *rows), to_judge=None)
    held = sum(row.split == "held_out" for row in rows_of(store, schema.prompts))
    with store.read() as conn:
        assert freeze(conn, tmp_path / "snapshots").counts["splits"] == {"held_out": held, "train": 60 - held} and held


def test_given_again_the_same_files_add_nothing_and_leave_out_the_same(store, tmp_path):
    path = written(tmp_path / "a.jsonl", *(asked(f"mail me {n} at {MAIL}", consent=n % 3 > 0) for n in range(30)), asked("no user", None))
    first, again = take(store, path), take(store, path)
    assert (first.new["prompts"], dict(again.new)) == (21, {}) and first.left_out == again.left_out == {"no consent": 10}
    assert take(store, path, dry_run=True).left_out == {"no consent": 10} and first.masked_rows == 30


def test_rows_of_other_sources_are_neither_masked_nor_left_out(store, tmp_path):
    done = import_files(store, [written(tmp_path / "a.jsonl", asked(f"mail {MAIL}"))], to_judge="demonstration")
    [prompt] = rows_of(store, schema.prompts)
    assert MAIL in repr(prompt.content) and prompt.source == "import" and not done.masked_rows and not done.left_out


def test_words_that_are_kept_without_consent_come_in_by_no_other_file(store, tmp_path):
    """What an export would leave out is not given to people, and the row says why."""
    store.write(lambda conn: content.add_prompt(conn, content="how sore", source="customer", consent=False, user="u", now=store.now()))
    file = written(tmp_path / "a.jsonl", {"prompt": "how sore"}, {"prompt": "how tall"}, {"prompt": "how old", "consent": "no"})
    looked = import_files(store, [file], to_judge="demonstration", dry_run=True)
    done = import_files(store, [file], to_judge="demonstration")
    assert done.rejected.keys() == looked.rejected.keys() == {"this prompt is kept without consent", "it says that there is no consent"}
    assert [one.lines for one in done.rejected.values()] == [[f"{file}:3"], [f"{file}:1"]] and done.new["tasks"] == looked.new["tasks"] == 1
    assert [row.content for row in rows_of(store, schema.prompts)] == ["how sore", [{"role": "user", "content": "how tall"}]]


def test_who_consents_brings_a_prompt_of_their_own_beside_the_same_words_without_consent(store, tmp_path):
    store.write(lambda conn: content.add_prompt(conn, content="how sore", source="customer", consent=False, user="u", now=store.now()))
    refused = take(store, written(tmp_path / "a.jsonl", asked("how sore", "u", consent=False)))
    done = take(store, written(tmp_path / "b.jsonl", asked("how sore", "v")))
    again = take(store, written(tmp_path / "b.jsonl", asked("how sore", "v")))
    assert refused.left_out == {"no consent": 1} and done.new["tasks"] == 1 and not again.new
    kept, used = rows_of(store, schema.prompts)
    assert (kept.user, kept.consent, used.user, used.consent) == ("u", False, "v", True)
    assert [task.prompt_id for task in rows_of(store, schema.tasks)] == [used.id]
