"""A studio as it is run: the wheel's code in a process of its own on a free port, people with sessions, a real browser."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from tests.studio.fake_models import FakeModels
from tutelage.feedback import accounts, queue
from tutelage.feedback.content import add_prompt, add_response, add_task
from tutelage.feedback.schema import labelers, tasks
from tutelage.feedback.store import Store

ROOT = Path(__file__).parents[2]
PASSWORD = "a sentence of one's own"
_numbers = itertools.count(1)


@dataclass
class Person:
    """Somebody who is signed in. key: their session cookie's."""

    id: int
    name: str
    key: str


class Studio:
    """A running studio, and its store as seen from this process."""

    def __init__(self, url: str, admin_link: str, store: Store) -> None:
        self.url, self.admin_link, self.store = url, admin_link, store
        self.cookie = f"tutelage-{url.rpartition(':')[2]}"

    def person(self, role: str = "labeler", *, screened: bool = True, **settings: Any) -> Person:
        """A new account with an open session."""
        name, now = f"{role}-{next(_numbers)}", self.store.now()

        def work(conn: Any) -> Person:
            person_id = accounts.add_account(conn, name=name, role=role, password_hash="none", now=now)
            conn.execute(update(labelers).where(labelers.c.id == person_id)
                         .values(screening={"state": "passed" if screened else "new"}, settings=settings))
            return Person(person_id, name, accounts.open_session(conn, person_id, now=now, user_agent="test"))

        return self.store.write(work)

    def client(self, person: Person | None = None, **options: Any) -> httpx2.Client:
        """An HTTP client, signed in as somebody."""
        client = httpx2.Client(base_url=self.url, follow_redirects=True, timeout=20, **options)
        if person is not None:
            client.cookies.set(self.cookie, person.key, domain="127.0.0.1")
        return client

    def task(self, kind: str = "comparison", answers: tuple[str, ...] = ("The first answer.", "The second answer."), *,
             prompt: Any = None, warnings: tuple[str, ...] = (), **more: Any) -> int:
        """A new open task. Returns its id."""
        now = self.store.now()
        content = prompt or [{"role": "user", "content": f"What is asked, number {next(_numbers)}?"}]

        def work(conn: Any) -> int:
            if kind == "prompt":
                return add_task(conn, kind=kind, now=now, **more)
            prompt_id = add_prompt(conn, content=content, source="import", now=now, warnings=warnings)
            ids = [add_response(conn, prompt_id=prompt_id, text=text, now=now, model="secret-model-x") for text in answers]
            return add_task(conn, kind=kind, now=now, prompt_id=prompt_id, response_ids=ids, **more)

        return self.store.write(work)

    def claim(self, person: Person) -> queue.Claim:
        """What the queue holds for somebody, or gives them now."""
        claim = self.store.write(lambda conn: queue.claim(conn, person.id, now=self.store.now()))
        assert claim is not None
        return claim

    def values(self, person: Person) -> list[Any]:
        """What somebody's judgements say that still count, oldest first."""
        from tutelage.feedback.about import recent_judgements

        with self.store.read() as conn:
            return [row["value"] for row in reversed(recent_judgements(conn, person.id)) if row["retracted"] is None]


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's files, as pip lays them out: a file that the wheel lacks is missing here too."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="session")
def start(installed, tmp_path_factory) -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[str]]]]:
    """Starts `tutelage studio …` in a process of its own; returns it and the lines it began with."""
    processes = []

    def run(*arguments: str, lines: int = 1, folder: Path | None = None) -> tuple[subprocess.Popen[str], list[str]]:
        environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([sys.executable, "-m", "tutelage.cli.main", "studio", *arguments], text=True, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder or tmp_path_factory.mktemp("cwd"))
        processes.append(process)
        assert process.stdout is not None
        return process, [process.stdout.readline() for _ in range(lines)]

    yield run
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(20)


@pytest.fixture(scope="session")
def running(start, tmp_path_factory) -> Iterator[Studio]:
    database = tmp_path_factory.mktemp("studio") / "studio.db"
    _, said = start("--db", str(database), "--port", "0", lines=2)
    url, link = re.search(r"http://\S+", said[0])[0], re.search(r"http://\S+/join/\S+", said[1])[0]
    with Store.open(database) as store:
        yield Studio(url, link, store)


@pytest.fixture(scope="session")
def models() -> Iterator[FakeModels]:
    """A model server that does what tests say."""
    fake = FakeModels()
    yield fake
    fake.server.shutdown()


@pytest.fixture(scope="session")
def talking(start, models, tmp_path_factory) -> Iterator[Studio]:
    """A studio that was told of it on its command line."""
    database = tmp_path_factory.mktemp("studio") / "studio.db"
    _, said = start("--db", str(database), "--port", "0", "--models", models.url, lines=2)
    with Store.open(database) as store:
        yield Studio(re.search(r"http://\S+", said[0])[0], "", store)


@pytest.fixture
def studio(running) -> Studio:
    """The running studio, with nothing to do in it yet."""
    running.store.write(lambda conn: conn.execute(update(tasks).values(state="halted")))
    return running


@pytest.fixture
def labeler(studio) -> Person:
    """Somebody who is past the screening."""
    return studio.person()


@pytest.fixture
def browser(studio, labeler) -> Iterator[httpx2.Client]:
    """The labeler's browser, without the drawing."""
    with studio.client(labeler) as client:
        yield client


@pytest.fixture
def lead(studio) -> Iterator[httpx2.Client]:
    """A lead's."""
    with studio.client(studio.person("lead")) as client:
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser. Not longer than its module: Playwright keeps an event loop running in this thread while it is open."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("TUTELAGE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on the path (TUTELAGE_CHROMIUM names one elsewhere)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, studio) -> Iterator[Callable[..., Any]]:
    """A page of the browser, signed in as somebody. What goes wrong in its scripts, or is blocked by the policy, fails the test."""
    contexts, wrong = [], []

    def page(person: Person | None = None, path: str = "/work", **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        contexts.append(context)
        if person is not None:
            context.add_cookies([{"name": studio.cookie, "value": person.key, "url": studio.url}])
        opened = context.new_page()
        opened.set_default_timeout(10_000)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
        opened.goto(studio.url + path)
        return opened

    yield page
    for context in contexts:
        context.close()
    assert wrong == []
