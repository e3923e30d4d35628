"""A full disk under a running studio: nothing is acknowledged that is not kept, what was typed stays, and the page says so."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.studio.conftest import Studio
from tests.studio.test_doors import csrf
from tests.studio.test_work import action
from tutelage.cli.main import main
from tutelage.feedback import location
from tutelage.feedback.store import Store

TYPED = "what somebody typed for an hour " * 200


@pytest.fixture(scope="module", params=["a small disk", "a limit on files"])
def disk(request, tmp_path_factory) -> Iterator[tuple[Path, Callable[[int], contextlib.AbstractContextManager[None]]]]:
    """A folder, and what fills its disk for a while: a file system of 8 MiB where one can be mounted; a limit on the process's files."""
    folder = tmp_path_factory.mktemp("disk")
    if request.param == "a small disk":
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")

    @contextlib.contextmanager
    def filled(_: int) -> Iterator[None]:
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        yield
        filler.unlink()

    @contextlib.contextmanager
    def limited(pid: int) -> Iterator[None]:
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        yield
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)

    yield folder, filled if request.param == "a small disk" else limited
    if request.param == "a small disk":
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def running(start, disk) -> Iterator[Studio]:
    database = disk[0] / "studio.db"
    process, said = start("--db", str(database), "--port", "0", lines=2)
    url, link = re.search(r"http://\S+", said[0])[0], re.search(r"http://\S+/join/\S+", said[1])[0]
    with Store.open(database) as store:
        found = Studio(url, link, store)
        found.full = lambda: disk[1](process.pid)
        yield found


def test_nothing_is_acknowledged_what_was_typed_stays_on_the_page_and_it_goes_on_when_there_is_room(studio):
    studio.task("demonstration", ())
    person, leader = studio.person(), studio.person("lead")
    with studio.client(person) as browser:
        page = browser.get("/work")
        fields = {"csrf": csrf(page), "text": TYPED}
        assert browser.post(f"{action(page)}/draft", data=fields | {"text": "an early draft"}).status_code == 204
        with studio.full():
            answered = browser.post(action(page), data=fields)
            assert answered.status_code == 503 and 'role="alert"' in answered.text and "this was not saved" in answered.text
            assert TYPED.strip() in answered.text and studio.values(person) == []
            assert "studio.db:" not in answered.text and "studio.db:" not in browser.post("/me/settings", data=fields).text
            with studio.client(leader) as lead:
                assert "studio.db: the disk " in lead.post("/me/settings", data={"csrf": csrf(lead.get("/me"))}).text
            assert browser.post(f"{action(page)}/draft", data=fields).status_code == 503
            assert "an early draft" in browser.get("/work").text and browser.get("/me").status_code == 200
        done = browser.post(action(page), data=fields)
        assert done.status_code == 200 and [value["text"] for value in studio.values(person)] == [TYPED]


def test_the_page_says_in_a_banner_that_drafts_are_not_kept_and_sends_them_again(studio, open_page):
    studio.task("demonstration", ())
    person = studio.person()
    page = open_page(person)
    page.clock.install()
    with studio.full():
        page.get_by_label("Your answer").fill(TYPED)
        page.clock.run_for(1500)
        page.get_by_role("alert").filter(has_text="cannot save anything right now").wait_for()
        page.get_by_role("button", name="Submit").click()
        page.get_by_role("alert").filter(has_text="this was not saved").wait_for()
        assert page.get_by_label("Your answer").input_value() == TYPED
        page.reload()
        assert page.get_by_label("Your answer").input_value() == TYPED            # from the browser's own copy
        page.get_by_label("Your answer").press_sequentially("!")
        page.clock.run_for(1500)
        page.get_by_role("alert").filter(has_text="cannot save anything right now").wait_for()
    page.clock.run_for(11_000)
    page.get_by_text("Draft saved").wait_for()
    assert page.get_by_role("alert").count() == 0
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("heading", name="Nothing to do right now").wait_for()
    assert [value["text"].rstrip("!") for value in studio.values(person)] == [TYPED]


@pytest.mark.parametrize("wrong", ["newer", "network"])
def test_a_database_that_cannot_be_used_is_refused_by_name_before_anything_is_served(wrong, tmp_path, monkeypatch, capsys):
    path = tmp_path / "studio.db"
    with Store.open(path) as store:
        if wrong == "newer":
            store.write(lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    if wrong == "network":
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"36 35 98:0 / {os.path.realpath(tmp_path)} rw - nfs4 server:/export rw\n")
        monkeypatch.setattr(location, "MOUNTS", mounts)
    with pytest.raises(SystemExit) as ended:
        main(["studio", "--db", str(path), "--port", "0"])
    out, err = capsys.readouterr()
    said = {"newer": "has revision 9999 and this version of tutelage knows none after", "network": "is on a network file system (nfs4)"}
    assert ended.value.code == 1 and said[wrong] in err and "hint:" in err and out == ""
