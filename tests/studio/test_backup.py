"""`tutelage studio backup` of a studio that people use, and another studio begun from the copy."""

from __future__ import annotations

import re
import shutil

from tests.studio.conftest import Studio
from tests.studio.test_doors import csrf
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
