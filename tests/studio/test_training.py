"""Retrain in the studio: one at a time, watched from any browser, also after the server was started anew."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from tests.feedback import few
from tests.feedback.test_retrain import until
from tests.studio.conftest import Studio
from tests.studio.test_doors import csrf
from tutelage.feedback import retrain
from tutelage.feedback.store import Store
from tutelage.studio import charts
from tutelage.studio.app import create_studio
from tutelage.studio.training import Trainer, duration
from tutelage.web.site import Site

# In place of `tutelage`: learns a little, waits to be let go, and leaves the report it was given.
PROGRAM = """
import json, os, pathlib, sys, time
if "config" in sys.argv:
    sys.exit()
run = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
(run / "report").mkdir(parents=True)
(run / "config.yaml").touch()
(run / "argv.json").write_text(json.dumps(sys.argv[1:]))
(run / "metrics.jsonl").write_text('{"step": 7, "train/loss": 0.6123456}\\n')
print("reward 8/20 step, 3 s, about 5 s left <b>", file=sys.stderr, flush=True)
while not (run / "go").exists():
    time.sleep(0.01)
(run / "report" / "reward.json").write_text(os.environ["REPORT"])
found = json.loads(os.environ["REPORT"]).get("result", {})
(run / "result.json").write_text(json.dumps({"steps": 20, "rows": 389, "disagreements": 3, "report": "report/reward.json"} | found))
"""


def estimate(mean, low, high, n):
    return {"mean": mean, "low": low, "high": high, "n": n}


TOLD = {
    "people": {"all": estimate(0.724, 0.681, 0.762, 40), "training_labelers": estimate(0.73, 0.69, 0.77, 40),
               "held_out_labelers": estimate(0.696, 0.6, 0.78, 20), "gap": estimate(0.028, -0.003, 0.059, 40),
               "labelers": {"amara": estimate(0.75, 0.7, 0.8, 30), "bo": estimate(None, None, None, 0),
                             "bruno": estimate(0.0, 0.0, 0.793, 1)},
               "groups": {"home": estimate(0.71, 0.6, 0.8, 25)}, "kinds": {"comparison": estimate(0.72, 0.68, 0.76, 40)}},
    "labels_worth": {"retrained": "bag of words", "curve": [{"judgements": n, "accuracy": estimate(m, m - 0.1, m + 0.1, 9)}
                                                           for n, m in ((100, 0.6), (200, 0.65))],
                     "without": {"few": {"judgements": 28, "change": estimate(-0.179, -0.5, 0.1, 5)},
                                 "amara": {"judgements": 80, "change": estimate(-0.02, -0.04, 0.001, 12)}}}}


@contextmanager
def serving(store: Store, trainer: Trainer | None) -> Iterator[Studio]:
    """A studio in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_studio(store, Site(port=port), trainer=trainer), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Studio(f"http://127.0.0.1:{port}", "", store)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def database(tmp_path):
    return tmp_path / "studio.db"


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setitem(retrain.start.__kwdefaults__, "program", (sys.executable, "-c", PROGRAM))
    monkeypatch.setenv("REPORT", json.dumps(TOLD))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sft" / "model").mkdir(parents=True)
    return Trainer("runs/sft", tmp_path / "data", ("train.epochs=2",))


@pytest.fixture
def opened(database, trainer) -> Iterator[Studio]:
    """A studio on a store with one judgement; what it trains is ended with the test."""
    with Store.open(database) as store:
        store.write(lambda conn: few.judgement(conn, few.task(conn, few.prompt(conn), ["a", "b"]), few.labeler(conn, "amara"),
                                               {"ranks": [0, 1]}))
        with serving(store, trainer) as studio:
            yield studio
        for training in retrain.newest(store):
            if training.state == "running":
                os.kill(training.pid, signal.SIGKILL)


def begun(lead, studio):
    """The page after a click on Retrain, and the training."""
    page = lead.post("/lead/training", data={"csrf": csrf(lead.get("/lead/training"))})
    training = retrain.current(studio.store)
    until(lambda: retrain.look(studio.store, training.id).metrics)
    return page, training


def test_a_click_trains_what_people_said_and_the_page_tells_whom_the_model_agrees_with(opened, trainer):
    person = opened.person("lead")
    with opened.client(person) as lead:
        page, training = begun(lead, opened)
        assert f"Training {training.id} is running" in page.text and "Retrain<" not in page.text
        until((training.run_dir / "argv.json").exists)
        assert json.loads((training.run_dir / "argv.json").read_text())[:2] == ["reward", "model.policy=runs/sft"]
        part = lead.get("/lead/training/now", headers={"HX-Request": "true"}).text
        assert "<html" not in part and "0.6123" in part and "about 5 s left &lt;b&gt;" in part and "1 judgements" in part
        (training.run_dir / "go").touch()
        until(lambda: retrain.current(opened.store) is None)
        ended = lead.get("/lead/training/now", headers={"HX-Request": "true"})
        assert ended.headers["hx-redirect"] == "/lead/training"
        listed = lead.get("/lead/training").text
        assert "72.4% 68.1 to 76.2" in re.sub(r"<[^>]+>", "", listed) and person.name in listed and "Retrain<" in listed
        told = lead.get(f"/lead/training/{training.id}").text
        table = list(csv.DictReader(io.StringIO(lead.get(f"/lead/training/{training.id}.csv").text)))
    rows = {cells[0]: cells[1:] for cells in
            ([re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td>(.*?)</td>", row, re.S)] for row in told.split("<tr>"))
            if cells}
    assert rows["Everybody"] == ["72.4% 68.1 to 76.2", "40"] and rows["Held-out labelers"][0] == "69.6% 60.0 to 78.0"
    assert rows["amara"] == ["80", "-2.0 points -4.0 to +0.1"] and rows["home"][0] == "71.0% 60.0 to 80.0"
    assert rows["bo"][0].startswith("undefined: nothing") and rows["200"] == ["65.0% 55.0 to 75.0", "9"]
    assert rows["bruno"][0] == "undefined: too few held-out prompts, 1 of at least 10" and "-17.9" not in told
    assert rows["few"] == ["28", "undefined: too few held-out prompts, 5 of at least 10"]
    assert told.index("amara") < told.index("bruno") and told.rindex("amara") < told.rindex("few"), "most data first"
    assert "75.0%" in told and re.search(r"\+2.8 points .*-0.3 to \+5.9", told)
    kept = {(row["part"], row["name"] or row["judgements"]): (row["accuracy"], row["accuracy_low"]) for row in table}
    assert kept["overall", "all"] == ("0.724", "0.681") and kept["kind", "comparison"] == ("0.72", "0.68")
    assert kept["judgements", "200"] == ("0.65", "0.55") and kept["without", "amara"] == ("-0.02", "-0.04")
    drawn = re.search(r'<svg class="chart".*?aria-label="Against the number of labels".*?</svg>', told)[0]
    dots = [float(x) for x in re.findall(r'<circle class="dot" cx="([\d.]+)"', drawn)]
    assert drawn.count('class="whisker"') == 2 and dots[1] - charts.LEFT == pytest.approx(2 * (dots[0] - charts.LEFT), abs=0.2)


def test_of_thousands_of_people_the_pages_show_fifty_and_the_tables_have_all(opened):
    crowd = {f"p{n:04}": estimate(0.6, 0.5, 0.7, 10 + n) for n in range(3671)}
    more = TOLD["people"] | {"labelers": crowd}
    without = {name: {"judgements": n, "change": estimate(0.0, -0.1, 0.1, 30)} for n, name in enumerate(crowd)}
    with opened.client(opened.person("lead")) as lead:
        _, training = begun(lead, opened)
        (training.run_dir / "go").touch()
        until(lambda: retrain.current(opened.store) is None)
        told = {"people": more, "labels_worth": TOLD["labels_worth"] | {"without": without}}
        (training.run_dir / "report" / "reward.json").write_text(json.dumps(told))
        for path in (f"/lead/training/{training.id}", "/dashboard"):
            page = lead.get(path).text
            assert page.count("p3670") >= 1 and "p3000" not in page and "more are in the CSV" in page and len(page) < 60_000
        table = list(csv.DictReader(io.StringIO(lead.get(f"/lead/training/{training.id}.csv").text)))
        for part in ("labeler", "without"):
            names = [row["name"] for row in table if row["part"] == part]
            assert len(names) == 3671 and names[0] == "p3670" and names[-1] == "p0000"


@pytest.mark.parametrize(("right", "said"), [
    (0.484, "no better than a coin, length, counting words. More labels or more steps are needed"), (0.7, "no better than counting words."),
    (0.76, None)])
def test_the_page_tells_steps_what_was_left_out_and_the_model_beside_its_baselines(opened, monkeypatch, right, said):
    pairs = {"accuracy": estimate(right, right - 0.1, right + 0.1, 40),
             "baselines_ci": {"length": estimate(0.6786, 0.63, 0.74, 40), "bag_of_words": estimate(0.75, 0.67, 0.82, 40)}}
    monkeypatch.setenv("REPORT", json.dumps(TOLD | {"result": {"pairs": pairs}}))
    with opened.client(opened.person("lead")) as lead:
        _, training = begun(lead, opened)
        with training.log.open("a") as log:
            log.write("warning: 34 of 553 judgements were left out (longer than 256 tokens, or nothing to learn from)\n")
        (training.run_dir / "go").touch()
        until(lambda: retrain.current(opened.store) is None)
        page = re.sub(r"<[^>]+>", "", lead.get(f"/lead/training/{training.id}").text)
    assert "389 judgements, in 20 optimizer steps" in page and "34 of 553 judgements were left out (longer than 256 tokens" in page
    assert f"this model{100 * right:.1f}%" in page and "length67.9% 63.0 to 74.0" in page and "counting words75.0% 67.0 to 82.0" in page
    assert (said in page) if said else "no better than" not in page


def test_one_at_a_time_and_only_leads(opened):
    with opened.client(opened.person("lead")) as lead, opened.client(opened.person("expert")) as expert:
        token = csrf(expert.get("/me"))
        for path in ("/lead/training", "/lead/training/1/stop"):
            assert expert.post(path, data={"csrf": token}).status_code == expert.get("/lead/training").status_code == 404
        _, training = begun(lead, opened)
        again = lead.post("/lead/training", data={"csrf": csrf(lead.get("/lead/training"))})
        assert again.status_code == 409 and f"training {training.id} is still running" in again.text
        assert lead.get("/lead/training/99").status_code == lead.get("/lead/training/99.csv").status_code == 404
        assert expert.get(f"/lead/training/{training.id}.csv").status_code == 404


def test_a_training_outlives_the_server_and_is_seen_by_the_next(opened, database, trainer):
    with opened.client(opened.person("lead")) as lead:
        _, training = begun(lead, opened)
    with Store.open(database) as store, serving(store, trainer) as second, second.client(second.person("lead")) as lead:
        assert "about 5 s left" in lead.get("/lead/training").text
        (training.run_dir / "go").touch()
        until(lambda: "72.4%" in lead.get("/lead/training").text)


def test_a_lead_can_stop_it_and_the_page_says_how_it_goes_on(opened):
    with opened.client(opened.person("lead")) as lead:
        page, training = begun(lead, opened)
        lead.post(f"/lead/training/{training.id}/stop", data={"csrf": csrf(page)})
        until(lambda: retrain.current(opened.store) is None)
        told = lead.get(f"/lead/training/{training.id}").text
        assert "stopped by a lead" in told and "--resume" in told
        late = lead.post(f"/lead/training/{training.id}/stop", data={"csrf": csrf(page)})
        assert late.status_code == 409 and "does not run" in late.text


def test_without_a_model_to_begin_from_and_without_judgements_the_page_says_what_is_missing(database, trainer, monkeypatch):
    with Store.open(database) as store:
        with serving(store, None) as studio, studio.client(studio.person("lead")) as lead:
            page = lead.get("/lead/training")
            assert "started without a model" in page.text
            assert lead.post("/lead/training", data={"csrf": csrf(lead.get("/me"))}).status_code == 404
        with serving(store, trainer) as studio, studio.client(studio.person("lead")) as lead:
            empty = lead.post("/lead/training", data={"csrf": csrf(lead.get("/lead/training"))})
            assert empty.status_code == 409 and "nothing to freeze" in empty.text


@pytest.mark.parametrize(("seconds", "said"), [(-3.0, "0:00"), (59.9, "0:59"), (247.0, "4:07"), (3847.0, "1:04:07")])
def test_how_long_it_took(seconds, said):
    assert duration(seconds) == said
