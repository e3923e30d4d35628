"""A file of feedback brought in from the lead's page, and files that are none."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from tests.studio.test_doors import csrf
from tutelage.base.scratch import scratch_dir
from tutelage.feedback.errors import ContentError
from tutelage.feedback.schema import judgements, labelers, prompts, tasks
from tutelage.studio import imports
from tutelage.studio.app import create_studio
from tutelage.web.site import Site

PAIRS = "".join(json.dumps({"prompt": f"What is tea {i}?", "chosen": "A drink.", "rejected": "No idea.", "labeler": "from the file"}) + "\n"
                for i in range(3)).encode()


def sent(client, name: str, content: bytes, **more):
    return client.post("/lead/import", data={"csrf": csrf(client.get("/lead/import"))} | more, files={"file": (name, content)})


def counted(studio) -> tuple[int, int]:
    with studio.store.read() as conn:
        return tuple(conn.scalar(select(func.count()).select_from(table)) for table in (tasks, judgements))


def test_a_file_is_looked_at_then_brought_in_and_not_twice(studio, lead):
    before = counted(studio)
    looked = sent(lead, "pairs.jsonl", PAIRS, look="yes")
    assert looked.status_code == 200 and "nothing was added" in looked.text and counted(studio) == before
    for what, count in (("prompts", 3), ("responses", 6), ("tasks", 3), ("judgements", 3), ("labelers", 1)):
        assert f"<dt>Would add: {what}</dt><dd>{count}</dd>" in looked.text
    assert "<dd>preference</dd>" in looked.text and "choose the file again" in looked.text
    done = sent(lead, "pairs.jsonl", PAIRS)
    assert "It is in the store." in done.text and counted(studio) == (before[0] + 3, before[1] + 3)
    assert "It is in the store." in sent(lead, "../../etc/pairs again.jsonl.gz", gzip.compress(PAIRS)).text
    assert counted(studio) == (before[0] + 3, before[1] + 3), "known before"
    with studio.store.read() as conn:
        assert conn.scalar(select(labelers.c.id).where(labelers.c.name == "from the file"))


def test_a_look_or_an_error_keeps_what_was_chosen_so_that_customers_texts_are_not_brought_in_unmasked(studio, lead):
    chosen = {"as": "comparison", "customers": "yes", "columns": "prompt=q\nresponse_a=x\nresponse_b=y", "batch": "<mine>", "overlap": "3"}
    files = (("pairs.csv", b"q,x,y\nhi,yes,no\n", 200), ("pairs.csv", b"q,x\nhi,yes\n", 422), ("pairs.exe", b"MZ", 422))
    for name, content, status in files:
        page = sent(lead, name, content, look="yes", **chosen)
        assert page.status_code == status and 'value="comparison" selected' in page.text
        assert 'name="customers" value="yes" checked' in page.text and "prompt=q\nresponse_a=x\nresponse_b=y</textarea>" in page.text
        assert 'value="&lt;mine&gt;"' in page.text and 'name="overlap" inputmode="numeric" maxlength="4" value="3"' in page.text
    assert "checked" not in lead.get("/lead/import").text


def test_a_table_of_other_names_is_brought_in_with_columns_batch_and_overlap_as_by_the_command(studio, lead):
    table = b"question,first,second\nWhat is tea?,A drink.,No idea.\n"
    refused = sent(lead, "mine.csv", table)
    assert refused.status_code == 422 and "question, first, second" in refused.text and "under “Columns with other names”" in refused.text
    done = sent(lead, "mine.csv", table, columns="prompt = question\r\n\r\nresponse_a=first\r\nresponse_b=second", batch=" mine ",
                overlap="3", **{"as": "comparison"})
    assert "It is in the store." in done.text
    with studio.store.read() as conn:
        [task] = conn.execute(select(tasks).where(tasks.c.batch == "mine"))
    assert (task.kind, task.overlap, len(task.response_ids)) == ("comparison", 3, 2)
    assert "1 of them tasks" in sent(lead, "mine.csv", table, columns="prompt=question\nresponse_a=first\nresponse_b=second", batch="mine",
                                     **{"as": "comparison"}).text


def test_plain_prompts_beside_responses_are_questions_to_a_chat_where_that_is_ticked(studio, lead):
    for batch, ticked in (("text", {}), ("chat", {"chat": "yes"})):
        sent(lead, "a.jsonl", b'{"prompt": "What is mint?", "responses": ["A herb.", "No idea."]}\n', batch=batch, **ticked)
    with studio.store.read() as conn:
        kept = dict(conn.execute(select(tasks.c.batch, prompts.c.content).join(prompts, tasks.c.prompt_id == prompts.c.id)
                                 .where(tasks.c.batch.in_(("text", "chat")))).all())
    assert kept == {"text": "What is mint?", "chat": [{"role": "user", "content": "What is mint?"}]}


def test_what_is_missing_is_said_in_the_page_s_words_and_not_in_the_command_s(studio, lead):
    prompts_only = sent(lead, "prompts.jsonl", b'{"prompt": "What is tea?"}\n')
    assert "Choose under “Make tasks of it”" in prompts_only.text
    wrong = [sent(lead, "a.jsonl", PAIRS, columns="prompt"), sent(lead, "a.jsonl", PAIRS, columns="promt=x"),
             sent(lead, "a.jsonl", PAIRS, overlap="0"), sent(lead, "a.jsonl", PAIRS, overlap="two"),
             sent(lead, "a.jsonl", PAIRS, overlap="1001"), sent(lead, "a.jsonl", PAIRS, columns="item=prompt\nitem=chosen"),
             sent(lead, "a.jsonl", PAIRS, batch="b" * 201)]
    assert [page.status_code for page in wrong] == [422] * 7
    assert "did you mean prompt?" in wrong[1].text and "from 1 to 1000" in wrong[4].text
    assert "the column item is mapped twice: to prompt and to chosen" in wrong[5].text and "at most 200" in wrong[6].text
    assert sent(lead, "a.jsonl", PAIRS, overlap="1000", look="yes").status_code == 200
    assert not any(flag in page.text for page in [prompts_only, *wrong] for flag in ("--as", "--column", "config"))


def test_rows_that_cannot_be_read_are_counted_with_the_reason_and_the_rest_is_taken(studio, lead):
    before = counted(studio)
    broken = PAIRS.replace(b"tea", b"soup") + b'{"prompt": "\xe2\x80\xae<b>", "chosen": 7, "rejected": "x"}\n{"prompt": \n'
    done = sent(lead, "pairs.jsonl", broken)
    assert counted(studio)[1] == before[1] + 3 and "pairs.jsonl:4" in done.text and "/tmp" not in done.text and "<b>" not in done.text


@pytest.mark.parametrize(("name", "content"), [("x.csv", b"\0" * 1000), ("x.csv", b"prompt,chosen,rejected\n"), ("x.jsonl", b"\n\n")])
def test_a_file_without_a_row_is_told_as_one(lead, name, content):
    answered = sent(lead, name, content)
    assert answered.status_code == 422 and 'role="alert"' in answered.text and "It is in the store" not in answered.text


def test_customers_prompts_are_masked_and_taken_with_consent_only(studio, lead):
    rows = [{"prompt": f"Write to ann@example.org about tea {i}, please.", "chosen": "Yes.", "rejected": "No.", "user": "u7",
             "consent": i == 0} for i in range(2)]
    before = counted(studio)
    done = sent(lead, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode(), customers="yes")
    assert counted(studio)[0] == before[0] + 1 and "consent" in done.text
    with studio.store.read() as conn:
        kept = str(conn.scalar(select(prompts.c.content).where(prompts.c.user == "u7")))
    assert "tea 0" in kept and "[EMAIL_1]" in kept and "ann@" not in kept


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pairs.jsonl", b"0" * 20_000_000)
    return made.getvalue()


@pytest.mark.parametrize(("name", "content", "said"), [
    ("pairs.zip", archive(), "no file of a kind"), ("pairs.jsonl", archive(), "zip"), ("pairs.exe", b"MZ", "no file of a kind"),
    ("pairs.jsonl.gz", gzip.compress(b" " * 300_000_000), "bomb"), ("pairs.jsonl.gz", gzip.compress(PAIRS)[:40], "truncated"),
    ("pairs.jsonl", b"", ""), ("pairs.parquet", b"PAR1 and no more", ""), (".jsonl", PAIRS, "no file of a kind"),
    ("x.jsonl", b"\x00\xff" * 1000, "")], ids=[
    "archive", "archive by another name", "program", "bomb", "truncated", "empty", "half a table", "nameless", "noise"])
def test_what_is_no_file_of_feedback_is_refused_in_words_and_adds_nothing(studio, lead, name, content, said):
    before = counted(studio)
    refused = sent(lead, name, content)
    assert refused.status_code in (200, 422) and said in refused.text and counted(studio) == before
    told = refused.status_code == 422 and 'role="alert"' in refused.text
    assert told or re.search(r"<dt>Rejected</dt><dd>[1-9]", refused.text), "one of the two says that something is wrong"
    assert "/tmp" not in refused.text and "Something went wrong" not in refused.text


def test_a_form_without_a_file_of_another_session_or_of_a_labeler_does_nothing(studio, lead):
    assert lead.post("/lead/import", data={"csrf": csrf(lead.get("/lead/import"))}).status_code == 422
    assert lead.post("/lead/import", data={"csrf": "00" * 64}, files={"file": ("a.jsonl", PAIRS)}).status_code == 403
    assert sent(lead, "a.jsonl", b"x" * 5_000_000).status_code == 413
    with studio.client(studio.person("expert")) as expert:
        token = csrf(expert.get("/me"))
        assert expert.post("/lead/import", data={"csrf": token}, files={"file": ("a.jsonl", PAIRS)}).status_code == 404


def test_what_a_killed_studio_left_of_an_upload_and_of_freezing_goes_at_the_next_start(start, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for left in (tmp_path / "tutelage-import-a1", tmp_path / "data" / "snapshots" / ".freezing-b2"):
        left.mkdir(parents=True)
        (left / "chats.jsonl").write_text("my mail is ada@example.com")
    with scratch_dir(tmp_path, imports.UPLOADS) as in_use:            # another studio's, which reads it now
        start("--db", str(tmp_path / "s.db"), "--port", "0", "--out", str(tmp_path / "data"), lines=2)
        assert in_use.exists() and not any(path.name == "chats.jsonl" for path in tmp_path.rglob("*"))


def test_a_file_that_is_being_read_lies_where_only_its_owner_reads_and_a_sweep_leaves_it(studio, monkeypatch, tmp_path):
    monkeypatch.setattr(imports.tempfile, "gettempdir", lambda: str(tmp_path))
    seen = []

    def look(store, path, **_):
        imports.sweep_uploads()
        seen.append((path.name, path.exists(), path.parent.parent, path.parent.stat().st_mode & 0o077))
        raise ContentError("enough")

    monkeypatch.setattr(imports, "import_files", look)
    site = Site(port=8600)
    with TestClient(create_studio(studio.store, site), base_url=site.url) as client:
        client.cookies.set(site.cookie, studio.person("lead").key)
        assert sent(client, "chats.jsonl", PAIRS).status_code == 422
    assert seen == [("chats.jsonl", True, tmp_path, 0)] and list(tmp_path.iterdir()) == []
