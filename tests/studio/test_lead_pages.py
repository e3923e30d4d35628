"""The pages for leads: quality and dashboard. Who may see them, what they tell, their tables as CSV, and in a real browser."""

from __future__ import annotations

import csv
import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.feedback import few
from tests.studio.test_browser import PHONE, violations
from tests.studio.test_doors import csrf
from tutelage.demo.at_work import simulate
from tutelage.demo.tasks import fill
from tutelage.feedback import accounts, queue
from tutelage.feedback.overview import overview
from tutelage.feedback.schema import audit, labelers
from tutelage.feedback.store import Store
from tutelage.lineage.erasing import erase_person
from tutelage.studio import charts, dashboard, newest, quality
from tutelage.studio.app import create_studio
from tutelage.studio.charts import Point
from tutelage.studio.newest import Newest
from tutelage.studio.tables import Table, csv_file
from tutelage.web.site import Site

TABLES = [f"/quality/{name}.csv" for name in quality.TABLES] + [f"/dashboard/{name}.csv" for name in dashboard.TABLES]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's store after its panel has judged everything."""
    with Store.open(tmp_path_factory.mktemp("demo") / "studio.db") as store:
        store.write(lambda conn: fill(conn, 0, store.now()))
        simulate(store)
        yield store


@pytest.fixture(scope="module")
def lead(demo):
    """A lead's client of an app in this process."""
    def work(conn):
        number = accounts.add_account(conn, name="=lead", role="lead", password_hash="none", now=demo.now())
        return accounts.open_session(conn, number, now=demo.now(), user_agent="test")
    site = Site(port=8600)
    client = TestClient(create_studio(demo, site), base_url=site.url)
    client.cookies.set(site.cookie, demo.write(work))
    return client


def rows_of(answer) -> list[dict[str, str]]:
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_only_leads_and_admins_see_the_pages_and_their_tables(studio):
    for role, status in (("labeler", 404), ("expert", 404), ("lead", 200), ("admin", 200)):
        with studio.client(studio.person(role)) as client:
            assert [client.get(path).status_code for path in ("/quality", "/dashboard", *TABLES)] == [status] * (2 + len(TABLES)), role
            nav = re.search(r"<nav.*?</nav>", client.get("/me").text, re.S)[0]
            assert ("/quality" in nav, "/dashboard" in nav) == (status == 200,) * 2
    with studio.client(studio.person("lead")) as client:
        assert client.get("/quality/nothing.csv").status_code == 404 == client.get("/dashboard/..%2f.csv").status_code


def test_the_quality_page_names_the_panels_careless_labeler(lead):
    page = lead.get("/quality").text
    assert re.search(r"of 6 labelers: a check found something: [^.]*falk", page)
    rows = {name: row for name, row in re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', page, re.S)}
    assert [name for name, row in rows.items() if "faster than anybody reads" in row] == ["falk"]
    assert [one["labeler"] for one in rows_of(lead.get("/quality/labelers.csv")) if "speed" in one["flags"]] == ["falk"]


def test_the_labels_behind_the_agreement_give_it_again(lead):
    labels = [one for one in rows_of(lead.get("/quality/judgements.csv")) if one["kind"] == "comparison"]
    by_task: dict[str, list[str]] = {}
    for one in labels:
        by_task.setdefault(one["task"], []).append(one["label"])
    pairs = [said[i] == said[j] for said in by_task.values() for i in range(len(said)) for j in range(i)]
    [raw] = [one for one in rows_of(lead.get("/quality/agreement.csv")) if (one["kind"], one["statistic"]) == ("comparison", "raw")]
    assert float(raw["value"]) == pytest.approx(sum(pairs) / len(pairs)) and int(raw["n"]) == len(pairs) == 360
    assert f"{float(raw['value']):.0%}" in lead.get("/quality").text


def test_the_dashboard_counts_what_the_panel_did(lead, demo):
    page = lead.get("/dashboard").text
    assert "560 judgements today" in page and "undefined: no training is done" in page
    throughput = rows_of(lead.get("/dashboard/throughput.csv"))
    assert sum(int(one["judgements"]) for one in throughput) == 560
    hours = {one["labeler"]: float(one["hours"]) for one in rows_of(lead.get("/dashboard/pay.csv"))}
    assert sum(hours.values()) * 3600 == pytest.approx(sum(float(one["seconds"]) for one in throughput), rel=1e-3)


def test_pay_is_set_by_admins_with_a_line_in_the_audit_log(studio):
    admin, lead, worker = studio.person("admin"), studio.person("lead"), studio.person()
    studio.task()
    claim = studio.claim(worker)
    studio.store.write(lambda conn: queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=worker.id, value={"choice": 1},
                                                 seconds=900.0, now=studio.store.now()))
    with studio.client(admin) as client:
        token = csrf(client.get("/dashboard"))
        page = client.post(f"/dashboard/pay/{worker.id}", data={"csrf": token, "pay_per_hour": "18.50"})
        assert page.status_code == 200 and "18.50" in page.text
        [row] = [one for one in rows_of(client.get("/dashboard/pay.csv")) if one["labeler"] == worker.name]
        assert (row["hours"], row["pay"]) == ("0.25", "4.62")         # 0.25 h at 18.50 is 4.625
        assert re.search(r'<details[^>]* id="pay" open', page.text) and not re.search(r'id="pay" open', client.get("/dashboard").text)
        for wrong in ("much", "nan", "-1", "1_000", "1e999"):
            page = client.post(f"/dashboard/pay/{worker.id}", data={"csrf": token, "pay_per_hour": wrong})
            assert page.status_code == 422 and re.search(rf'id="pay" open.*role="alert".*value="{wrong}" autofocus', page.text, re.S)
        assert client.post(f"/dashboard/pay/{worker.id}", data={"csrf": token, "pay_per_hour": "18,50"}).status_code == 200
    with studio.client(lead) as client:
        theirs = {"csrf": csrf(client.get("/people")), "pay_per_hour": "1"}
        assert client.post(f"/dashboard/pay/{worker.id}", data=theirs).status_code == 404
    with studio.store.read() as conn:
        assert conn.scalar(select(labelers.c.pay_per_hour).where(labelers.c.id == worker.id)) == 18.5
        logged = conn.execute(select(audit.c.actor_id, audit.c.subject, audit.c.details).where(audit.c.action == "pay per hour")).all()
    assert logged == 2 * [(admin.id, str(worker.id), {"pay_per_hour": 18.5})]


def test_a_cell_is_no_formula_in_a_spreadsheet():
    body = csv_file("x", Table(["a", "b", "c"], [["=1+1", -3, None], ["@me", "-5", "+x"]])).body.decode()
    assert body.splitlines() == ["a,b,c", "'=1+1,-3,", "'@me,-5,'+x"]


def test_what_is_said_meanwhile_is_on_the_page_or_soon_after(demo, monkeypatch):
    kept = Newest(demo)
    first = kept.get()
    assert kept.get() is first                                        # nothing was said
    demo.write(lambda conn: accounts.add_account(conn, name="x", role="lead", password_hash="n", now=demo.now()))

    def say():
        from tutelage.feedback.content import record_audit
        demo.write(lambda conn: record_audit(conn, action="anything", now=demo.now()))

    say()
    monkeypatch.setattr(newest, "AT_ONCE_SECONDS", 1e9)
    second = kept.get()
    assert second is not first                                        # quick: worked out while the page waits
    say()
    monkeypatch.setattr(newest, "AT_ONCE_SECONDS", 0.0)
    assert kept.get() is second                                       # slow: not before it is so many times as old as it took
    monkeypatch.setattr(newest, "REST", 0)
    assert kept.get() is second                                       # then in the background, the last being shown meanwhile
    end = time.monotonic() + 30
    while kept.get() is second:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nobody_who_was_erased_is_on_the_page_that_is_shown_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(newest, "AT_ONCE_SECONDS", 0.0)               # as of a large store, whose page is not waited for
    with Store.open(tmp_path / "studio.db") as store, Store.open(tmp_path / "studio.db") as elsewhere:
        store.write(lambda conn: [few.judgement(conn, few.task(conn, few.prompt(conn, name), ["a", "b"]), few.labeler(conn, name),
                                                {"ranks": [0, 1]}) for name in ("Ann", "Bo")])
        kept = Newest(store)
        assert {person.name for person in kept.get().standing.people.values()} == {"Ann", "Bo"}
        erase_person(elsewhere, "labeler", "Ann")                     # another process
        assert "Ann" not in repr(kept.get()) and "Bo" in repr(kept.get())


def test_what_was_being_worked_out_when_somebody_was_erased_is_shown_to_nobody(tmp_path, monkeypatch):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: few.labeler(conn, "Ann"))
        kept, gate, read = Newest(store), threading.Event(), threading.Event()

        def slow(standing):
            read.set()
            gate.wait(20)
            return overview(standing)

        monkeypatch.setattr(newest, "overview", slow)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(kept.get)                                     # the first look, which read Ann
            assert read.wait(20)
            erase_person(store, "labeler", "Ann")
            second = pool.submit(kept.get)
            time.sleep(0.1)                                           # it waits for the first
            gate.set()
            assert "Ann" not in repr(second.result())


def test_a_chart_puts_a_half_in_the_middle_and_leaves_out_what_is_unknown():
    drawn = str(charts.intervals([Point("a", 0.5, 0.25, 1.0), Point("<b>", None)], title='"t"'))
    top, bottom = charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert f'cy="{(top + bottom) / 2:.1f}"' in drawn and drawn.count("<circle") == 1
    assert f'y1="{bottom - 0.25 * (bottom - top):.1f}" y2="{top:.1f}"' in drawn
    assert "&lt;b&gt;" in drawn and "&quot;t&quot;" in drawn and "<b>" not in drawn
    assert f'height="{bottom - top:.1f}"' in str(charts.bars([Point("a", 4.0), Point("b", 8.0)], title="t"))     # 8 fills the axis


@pytest.mark.parametrize("path", ["/quality", "/dashboard"])
def test_the_pages_are_accessible_and_no_wider_than_a_phone(studio, open_page, path):
    admin, others = studio.person("admin"), [studio.person() for _ in range(3)]
    for _ in range(6):
        studio.task(overlap=3)
        for person in others:
            claim = studio.claim(person)
            studio.store.write(lambda conn, claim=claim, person=person: queue.submit(
                conn, assignment_id=claim.assignment_id, labeler_id=person.id, value={"choice": 1 + person.id % 8}, seconds=3.0,
                now=studio.store.now()))
    for scheme in ("light", "dark"):
        page = open_page(admin, path, color_scheme=scheme)
        for summary in page.locator("summary").all():
            summary.click()
        assert page.locator("svg.chart").count() >= 1 and violations(page) == []
    page = open_page(admin, path, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_an_erasure_names_the_downloads_with_people_in_them_by_who_took_them_and_when(demo, lead):
    before = demo.now()
    for path in ("/quality/judgements.csv", "/quality/difficulty.csv", "/dashboard/pay.csv", "/lead/writing/prompts.jsonl"):
        assert lead.get(path).status_code == 200
    with demo.read() as conn:
        noted = conn.execute(select(audit.c.subject, labelers.c.name).join(labelers, labelers.c.id == audit.c.actor_id).where(
            audit.c.action == "download", audit.c.at >= before).order_by(audit.c.id)).all()
    assert noted == [("judgements.csv", "=lead"), ("pay.csv", "=lead"), ("prompts.jsonl", "=lead")]
    told = [line for line in erase_person(demo, "labeler", "amara", dry_run=True).unreached if "downloaded" in line]
    day = time.strftime("%Y-%m-%d", time.gmtime(before))
    assert f"what =lead downloaded on {day}, in which they are called amara: judgements.csv" in told
    assert any(line.endswith(": prompts.jsonl") and "called person-" in line for line in told)
