"""`tutelage studio backup` of a studio that people use, and another studio begun from the copy."""

from __future__ import annotations

import re
import shutil

import pytest
from sqlalchemy import select

from tests.studio.conftest import Studio
from tests.studio.test_doors import csrf
from tutelage.cli.main import main
from tutelage.feedback.content import add_labeler
from tutelage.feedback.schema import labelers
from tutelage.feedback.store import Store


def test_a_studio_in_use_is_backed_up_and_goes_on_from_the_copy_where_it_was(studio, start, tmp_path):
    person = studio.person()
    for _ in range(2):
        studio.task()
    with studio.client(person) as client:
        page = client.get("/work")
        client.post(re.search(r'id="task" method="post" action="([^"]+)"', page.text)[1], data={"csrf": csrf(page), "choice": "2"})
        database = str(studio.store.url.database)
        process, said = start("backup", str(tmp_path / "monday.db"), "--db", database, lines=1)
        assert process.wait(30) == 0 and said[0].startswith("backup: ")
        page = client.get("/work")
        client.post(re.search(r'id="task" method="post" action="([^"]+)"', page.text)[1], data={"csrf": csrf(page), "choice": "7"})
    (tmp_path / "restored").mkdir()
    restored = shutil.move(tmp_path / "monday.db", tmp_path / "restored" / "studio.db")
    _, said = start("--db", str(restored), "--port", "0")
    with Store.open(restored) as store:
        again = Studio(re.search(r"http://\S+", said[0])[0], "", store)
        assert [value["step"] in (2, 7) for value in again.values(person)] == [True] and len(studio.values(person)) == 2
        with again.client(person) as client:
            assert 'id="task"' in client.get("/work").text, "signed in still, with the second task to do"


def test_a_backup_takes_no_files_place_and_makes_no_database(studio, start, tmp_path):
    (tmp_path / "kept.db").write_text("mine")
    there = str(studio.store.url.database)
    for copy, database, told in (("kept.db", there, "kept.db exists"), ("new.db", "typo.db", "no database typo.db")):
        process, said = start("backup", copy, "--db", database, folder=tmp_path)
        assert process.wait(30) == 1 and told in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["kept.db"] and (tmp_path / "kept.db").read_text() == "mine"


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return left.value.code


def test_the_demos_store_is_the_one_that_is_copied_where_demo_stands_before_backup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUTELAGE_DATABASE_URL", str(tmp_path / "real.db"))
    for path, name in ((tmp_path / "real.db", "real"), (tmp_path / "runs" / "studio-demo" / "studio.db", "demo"), (tmp_path / "x.db", "x")):
        with Store.open(path) as store:
            store.write(lambda conn, name=name: add_labeler(conn, name=name, now=1.0))

    def copied(*options: str) -> list[str]:
        copy = tmp_path / f"copy-{len(options)}.db"
        assert code_of("studio", *options, "backup", str(copy)) == 0
        with Store.open(copy) as store, store.read() as conn:
            return list(conn.scalars(select(labelers.c.name)))

    assert [copied(), copied("--demo"), copied("--db", str(tmp_path / "x.db"))] == [["real"], ["demo"], ["x"]]


@pytest.mark.parametrize(("options", "told"), [
    (("--port", "8600"), "--port before backup"), (("--policy", "p", "-v"), "--policy --verbose before backup"),
    (("--train", "train.epochs=1"), "--train before backup")])
def test_options_that_say_nothing_to_backup_are_refused_in_one_line(tmp_path, capsys, options, told):
    with Store.open(tmp_path / "x.db"):
        pass
    assert code_of("studio", "--db", str(tmp_path / "x.db"), *options, "backup", str(tmp_path / "copy.db")) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "copy.db").exists()
