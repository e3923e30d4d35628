"""The door for programs, over HTTP against a running studio."""

from __future__ import annotations

import json
import re
from functools import partial

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tutelage.base.records import Judgement
from tutelage.feedback import accounts
from tutelage.feedback.errors import StoreError
from tutelage.feedback.schema import audit, labelers, prompts, responses, scores, tasks
from tutelage.feedback.store import Store
from tutelage.studio.app import create_studio
from tutelage.web.limits import Limiter
from tutelage.web.site import Site

TEA = {"prompt": [{"role": "user", "content": "How do I brew tea?"}], "responses": [{"text": "Boil water."}, {"text": "No.", "model": "m"}],
       "kind": "comparison"}


@pytest.fixture
def api(studio):
    """A client with a token for some scopes."""
    clients = []

    def make(*scopes: str, **options) -> httpx2.Client:
        admin = studio.person("admin")
        token = studio.store.write(lambda conn: accounts.make_api_token(
            conn, admin.id, name="script", scopes=scopes or accounts.SCOPES, now=studio.store.now(), **options))
        clients.append(client := httpx2.Client(base_url=studio.url + "/api/v1", headers={"authorization": f"Bearer {token}"}, timeout=20))
        client.admin = admin
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def here(tmp_path):
    """Makes a studio in this process: its store, and a client with a token for everything."""
    with Store.open(tmp_path / "studio.db") as store:
        def make() -> tuple[Store, TestClient]:
            admin = store.write(lambda conn: accounts.add_account(conn, name="ann", role="admin", password_hash="none", now=store.now()))
            token = store.write(lambda conn: accounts.make_api_token(conn, admin, name="x", scopes=accounts.SCOPES, now=store.now()))
            site = Site(port=8600)
            return store, TestClient(create_studio(store, site), base_url=site.url, headers={"authorization": f"Bearer {token}"})

        yield make


def add(client, *items) -> httpx2.Response:
    return client.post("/tasks", json={"items": list(items)})


def lines(answer: httpx2.Response) -> list[dict]:
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


def said(answer: httpx2.Response) -> str:
    return answer.json()["error"]["message"]


def judged(studio, person, choice: str = "2") -> None:
    """Somebody compares what is theirs to compare."""
    with studio.client(person) as client:
        page = client.get("/work").text
        form = {"csrf": re.search(r'name="csrf" value="(\w+)"', page)[1], "choice": choice}
        assert client.post(re.search(r'id="task" method="post" action="([^"]+)"', page)[1], data=form).status_code == 200


def test_an_item_goes_in_is_judged_and_its_judgement_comes_out(studio, api):
    client, person = api(), studio.person()
    answer = {"text": "Boil water.", "model": "ppo@ab", "model_hash": "cd" * 32, "sampling": {"temperature": 1.0}, "logprobs": [-1, -0.5]}
    made = add(client, TEA | {"responses": [answer, {"text": "Never."}], "overlap": 2, "question": "Which is kinder?", "batch": "night"})
    assert made.status_code == 201
    (item,) = made.json()["items"]
    with studio.store.read() as conn:
        kept = conn.execute(select(responses).where(responses.c.id == item["response_ids"][0])).mappings().one()
        task = conn.execute(select(tasks).where(tasks.c.id == item["task_id"])).mappings().one()
    assert {name: kept[name] for name in answer} == answer | {"logprobs": [-1, -0.5]}
    assert (task["overlap"], task["batch"], task["extra"]) == (2, "night", {"question": "Which is kinder?"})
    judged(studio, person)
    (row,) = [row for row in lines(client.get("/judgements", params={"limit": 1000})) if row["task_id"] == item["task_id"]]
    judgement = Judgement.from_json({name: value for name, value in row.items() if name not in ("id", "task_id", "response_ids")})
    assert judgement.strength == 3 and sorted(judgement.ranks) == [0, 1] and judgement.responses[0].logprobs == (-1, -0.5)
    assert person.name not in json.dumps(row) and row["labeler"].startswith("person-")
    assert lines(client.get("/judgements", params={"after": row["id"]})) == []


def test_a_prompt_to_be_written_is_an_item_without_one(studio, api):
    client = api("tasks:write")
    wanted = {"kind": "prompt", "style": "few_shot", "question": "About rivers.", "key": "r-1"}
    made = add(client, wanted)
    assert made.status_code == 201 and made.json() == add(client, wanted).json(), "the same key is the same item"
    task = made.json()["items"][0]["task_id"]
    with studio.store.read() as conn:
        row = conn.execute(select(tasks.c.kind, tasks.c.extra, tasks.c.prompt_id).where(tasks.c.id == task)).one()
    assert row == ("prompt", {"style": "few_shot", "question": "About rivers."}, None)
    for wrong in (TEA | {"kind": "prompt"}, TEA | {"style": "plain"}, {"kind": "comparison"}, {"kind": "prompt", "style": "haiku"}):
        assert add(client, wrong).status_code == 422


def test_rows_are_paged_by_id_without_gap_or_repeat(studio, api):
    client = api("judgements:read", "tasks:write")
    add(client, *({**TEA, "prompt": f"Paged {n}?"} for n in range(7)))
    person = studio.person()
    for _ in range(7):
        judged(studio, person)
    everything, after, paged = lines(client.get("/judgements", params={"limit": 1000})), 0, []
    while page := lines(client.get("/judgements", params={"after": after, "limit": 3})):
        paged, after = paged + page, page[-1]["id"]
    assert paged == everything and len(everything) >= 7


def test_what_is_taken_back_is_told(studio, api):
    client, person = api(), studio.person()
    add(client, {**TEA, "prompt": "Undone?"})
    judged(studio, person)
    newest = lines(client.get("/judgements", params={"limit": 1000}))[-1]["id"]
    with studio.client(person) as browser:
        page = browser.get("/me").text
        browser.post("/work/undo", data={"csrf": page.split('name="csrf" value="')[1].split('"')[0]})
    assert newest not in [row["id"] for row in lines(client.get("/judgements", params={"limit": 1000}))]
    assert [row["reason"] for row in lines(client.get("/retractions")) if row["judgement_id"] == newest] == ["undone"]


@pytest.mark.parametrize(("scope", "method", "path", "body"), [
    ("tasks:write", "POST", "/tasks", {"items": [TEA]}), ("scores:write", "POST", "/scores", {"model": "rm", "scores": []}),
    ("scores:write", "GET", "/responses?model=rm", None), ("judgements:read", "GET", "/judgements", None),
    ("judgements:read", "GET", "/retractions", None)])
def test_each_door_opens_to_its_scope_only(studio, api, scope, method, path, body):
    right, wrong = api(scope), api(*(one for one in accounts.SCOPES if one != scope))
    refused = wrong.request(method, path, json=body)
    assert refused.status_code == 403 and scope in said(refused)
    assert right.request(method, path, json=body).status_code in (200, 201, 422)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer tut_nonsense", "Basic dXNlcjpwdw==", "tut_x"])
def test_without_a_token_nothing_is_said_and_a_session_is_no_token(studio, header):
    with studio.client(studio.person("admin")) as client:
        refused = client.get("/api/v1/judgements", headers={} if header is None else {"authorization": header})
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer" and set(refused.json()) == {"error"}


def test_a_token_that_ended_or_whose_owner_was_shut_out_is_none(studio, api):
    old, orphan = api("judgements:read", seconds=-1.0), api("judgements:read")
    studio.store.write(lambda conn: conn.execute(labelers.update().where(labelers.c.id == orphan.admin.id).values(disabled_at=1.0)))
    assert [client.get("/judgements").status_code for client in (old, orphan)] == [401, 401]


def test_it_says_when_a_token_was_used_last(studio, api):
    client = api("judgements:read")
    client.get("/judgements")
    with studio.store.read() as conn:
        (row,) = [row for row in accounts.list_api_tokens(conn) if row["labeler_id"] == client.admin.id]
    assert row["last_seen_at"] is not None


def test_too_many_requests_are_told_when_to_come_again(here, monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr("tutelage.studio.api.Limiter", partial(Limiter, clock=lambda: seconds[0]))
    _, client = here()
    answers = [client.get("/api/v1/judgements") for _ in range(61)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    assert answers[-1].headers["retry-after"] == "1" and set(answers[-1].json()) == {"error"}
    seconds[0] = 0.11                                                # ten a second
    assert [client.get("/api/v1/judgements").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(("item", "words"), [
    ({"kind": "comparison", "responses": [{"text": "one"}]}, "items.1: a comparison with 1 answers"), ({"prompt": ""}, "empty prompt"),
    ({"prompt": [{"role": "nobody", "content": "x"}]}, "items.1"), ({"kind": "poll"}, "items.1.kind"), ({"colour": 1}, "items.1.colour"),
    ({"p_select": 0}, "items.1.p_select"), ({"source": "customer"}, "consent"), ({"source": "customer", "consent": False}, "consent"),
    ({"responses": [{"text": "x" * 1_000_001}, {"text": "No."}]}, "1,000,001 characters"), ({"warnings": ["a b"]}, "warning"),
    ({"warnings": ["boredom"]}, "known are sexual, violence, self_harm, hate, abuse"),
    ({"purpose": "practice", "expected": {"ranks": [0]}}, "expected.ranks"), ({"expected": {"rating": 8}}, "expected.rating is 8"),
    ({"expected": {"strength": "much"}}, "expected.strength"), ({"expected": {"colour": 1}}, "expected.colour"),
    ({"expected": {"rating": 5}}, "expected.rating is 5"), ({"expected": {"label": True}}, "expected.label"),
    *(({"expected": expected}, "no ranks") for expected in ({}, {"strength": 3}, {"reasons": "so"})),
    *(({"expected": {"ranks": ranks}}, "expected.ranks") for ranks in ([1, 1], [[], []], [])),
    ({"responses": [], "expected": {"ranks": []}}, "0 answers"),
    *(({"purpose": purpose}, f"items.1: a {purpose} item without expected") for purpose in ("gold", "practice", "screening")),
    ({"responses": [{"text": "one"}, {"text": "one"}]}, "items.1: two of its answers are the same"),
    ({"responses": [{"text": "one"}, {"text": " \n"}]}, "items.1: responses.1 is empty"),
    ({"kind": "conversation", "responses": [], "expected": {"rating": 5}}, "expected.rating"),
    ({"kind": None, "expected": {"ranks": [0, 1]}}, "items with a kind"),
    ({"kind": "prompt"}, "comes with a prompt"), ({"overlap": "2"}, "items.1.overlap"),
    ({"overlap": 1001}, "items.1.overlap"), ({"key": "k", "kind": None}, "a key is")])
def test_items_are_taken_whole_or_not_at_all(studio, api, item, words):
    client = api("tasks:write")
    with studio.store.read() as conn:
        before = [len(conn.execute(select(table.c.id)).all()) for table in (prompts, responses, tasks)]
    refused = add(client, {**TEA, "prompt": "Would be first?"}, TEA | item)
    assert refused.status_code == 422 and words in said(refused)
    with studio.store.read() as conn:
        assert before == [len(conn.execute(select(table.c.id)).all()) for table in (prompts, responses, tasks)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"items": []}', b'{"items": [' + b"[" * 50_000])
def test_what_is_no_request_gets_one_line(api, body):
    refused = api("tasks:write").post("/tasks", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422 and len(said(refused)) < 300


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"items": [' + b"[" * 50_000])
def test_a_body_that_is_no_json_is_told_what_to_send(api, body):
    refused = api("tasks:write").post("/tasks", content=body, headers={"content-type": "application/json"}).json()["error"]
    assert "JSON" in refused["message"] and "send one JSON object" in refused["hint"]


def test_too_much_at_once_is_refused(api):
    refused = add(api("tasks:write"), {**TEA, "prompt": "x" * 4_100_000})
    assert refused.status_code == 413


def test_the_same_key_again_adds_nothing(studio, api):
    client = api("tasks:write")
    first, again = (add(client, TEA | {"key": "rollout-7/3"}).json() for _ in range(2))
    assert first == again and add(client, TEA | {"key": "rollout-7/4"}).json() != first


ONE = [{"text": "Boil water."}]


@pytest.mark.parametrize(("kind", "answers", "expected"), [
    ("comparison", TEA["responses"], {"ranks": [0, 1]}), ("comparison", TEA["responses"], {"ranks": [0, 0], "tie": True}),
    ("ranking", [{"text": one} for one in "abc"], {"ranks": [1, 0, 1]}), ("rating", ONE, {"rating": 5, "flags": ["sexual"]}),
    ("label", ONE, {"label": False}), ("critique", ONE, {"critique": "Too short."}), ("edit", ONE, {"edit": "Boil water, then wait."}),
    ("demonstration", [], {"text": "Boil it."}), ("conversation", [], {"rating": 3})])
def test_every_kind_takes_a_known_answer_of_its_own_without_reasons_and_the_lead_sees_it(studio, api, lead, kind, answers, expected):
    item = {"prompt": f"How is {kind} known?", "responses": answers, "kind": kind, "purpose": "practice", "expected": expected}
    task = add(api("tasks:write"), item).json()["items"][0]["task_id"]
    page = lead.get(f"/lead/tasks/{task}")
    assert page.status_code == 200 and "The expert" in page.text


@pytest.mark.parametrize("expected", [{"rating": 5}, {"label": True}, {"reasons": "so"}])
def test_a_known_answer_of_another_kind_that_is_in_the_store_stops_no_page(studio, lead, expected):
    task = studio.task(purpose="practice", expected=expected)
    with studio.client(studio.person(screened=False)) as client:
        page = client.get("/work").text
        form = {"csrf": re.search(r'name="csrf" value="(\w+)"', page)[1], "choice": "1"}
        assert client.post(re.search(r'id="task" method="post" action="([^"]+)"', page)[1], data=form).status_code == 200
    assert lead.get(f"/lead/tasks/{task}").status_code == 200


def test_a_practice_item_shows_its_reasons(studio, api):
    expected = {"ranks": [0, 1], "strength": 4, "reasons": "The second is **rude**."}
    add(api("tasks:write"), TEA | {"purpose": "practice", "expected": expected})
    person = studio.person(screened=False)
    with studio.client(person) as client:
        page = client.get("/work").text
        form = {"csrf": re.search(r'name="csrf" value="(\w+)"', page)[1], "choice": "1"}
        assert "<strong>rude</strong>" in client.post(re.search(r'id="task" method="post" action="([^"]+)"', page)[1], data=form).text


def test_customers_words_are_masked_before_anyone_sees_them(studio, api):
    prompt = [{"role": "user", "content": "I am at ada@example.com."}, {"role": "assistant", "content": "Noted, ada@example.com."},
              {"role": "user", "content": "And bob@example.com?"}]
    item = add(api("tasks:write"), TEA | {"prompt": prompt, "source": "customer", "consent": True, "user": "c-17",
                                          "responses": [{"text": "Write to bob@example.com."}, {"text": "No."}]}).json()["items"][0]
    with studio.store.read() as conn:
        kept = conn.execute(select(prompts).where(prompts.c.id == item["prompt_id"])).mappings().one()
        answer = conn.scalar(select(responses.c.text).where(responses.c.id == item["response_ids"][0]))
    assert [message["content"] for message in kept["content"]] == ["I am at [EMAIL_1].", "Noted, [EMAIL_1].", "And [EMAIL_2]?"]
    assert (answer, kept["user"], kept["source"]) == ("Write to [EMAIL_2].", "c-17", "customer")


def test_a_customers_prompt_without_consent_is_kept_and_given_to_nobody(studio, api):
    client = api()
    item = add(client, {"prompt": "Private?", "source": "customer", "consent": False}).json()["items"][0]
    with studio.store.read() as conn:
        assert conn.scalar(select(prompts.c.consent).where(prompts.c.id == item["prompt_id"])) is False and item["task_id"] is None


def test_a_reward_model_reads_what_is_open_and_its_scores_order_the_queue(studio, api):
    client = api()
    items = add(client, *({**TEA, "prompt": f"Scored {n}?"} for n in range(3))).json()["items"]
    mine = {one for item in items for one in item["response_ids"]}
    rows = [row for row in lines(client.get("/responses", params={"model": "rm", "limit": 1000})) if row["response_id"] in mine]
    assert {row["text"] for row in rows} == {"Boil water.", "No."} and rows[0]["prompt"] == "Scored 0?"
    sure = {items[0]["response_ids"][0]: 4.0, items[1]["response_ids"][0]: 0.2, items[2]["response_ids"][0]: 2.0}
    given = [{"response_id": one, "score": sure.get(one, 0)} for one in sorted(mine)]
    assert client.post("/scores", json={"model": "rm", "scores": given}).json() == {"scores": 6, "tasks": 3}
    assert not mine & {row["response_id"] for row in lines(client.get("/responses", params={"model": "rm", "limit": 1000}))}
    with studio.store.read() as conn:
        ids = [item["task_id"] for item in items]
        order = conn.scalars(select(tasks.c.id).where(tasks.c.id.in_(ids)).order_by(tasks.c.priority.desc())).all()
        assert len(conn.execute(select(scores).where(scores.c.response_id.in_(mine))).all()) == 6
        who = conn.scalars(select(audit.c.action).where(audit.c.actor_id == client.admin.id)).all()
    assert order == [ids[1], ids[2], ids[0]] and who == ["api tasks", "api scores"]
    bad = client.post("/scores", json={"model": "rm", "scores": [{"response_id": 1_999_999_999, "score": 1.0}]})
    assert bad.status_code == 422 and "no response" in said(bad)


def test_what_is_not_there_is_said_in_json(studio, api):
    client = api()
    assert client.get("/nowhere").status_code == 404 and set(client.get("/nowhere").json()) == {"error"}
    assert client.delete("/tasks").status_code == 405
    for wrong in ("after=-1", "after=x", "limit=0", "limit=1001", "after=99999999999"):
        assert client.get(f"/judgements?{wrong}").status_code == 422
    foreign = client.post("/tasks", json={"items": [TEA]}, headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403, "no page of another site, whatever it holds"


def test_a_store_that_cannot_be_written_is_not_the_requests_fault_and_can_be_read(here, monkeypatch):
    def full(work):
        raise StoreError("the database cannot be written: the disk is full", hint="make room")

    store, client = here()
    monkeypatch.setattr(store, "write", full)
    refused = client.post("/api/v1/tasks", json={"items": [TEA]})
    assert (refused.status_code, refused.json()["error"]["hint"]) == (503, "make room")
    assert client.get("/api/v1/retractions").status_code == 200
