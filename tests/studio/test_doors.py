"""Who gets in, and how: driven over HTTP against a running studio."""

from __future__ import annotations

import re

import httpx2
import pytest

from tests.studio.conftest import PASSWORD
from tutelage.feedback import accounts
from tutelage.feedback.content import add_labeler
from tutelage.feedback.schema import sessions


def csrf(page: httpx2.Response) -> str:
    """The form token of a page."""
    return re.search(r'name="csrf" value="(\w+)"', page.text)[1]


def invite(studio, role: str = "labeler", **options) -> str:
    return "/join/" + studio.store.write(lambda conn: accounts.make_invite(conn, role=role, now=studio.store.now(), **options))


def test_the_first_link_makes_one_admin_and_no_second(studio):
    path = studio.admin_link.removeprefix(studio.url)
    with studio.client() as first, studio.client() as second:
        assert first.get(path).status_code == 200
        answered = first.post(path, data={"name": "The First", "password": PASSWORD})
        assert answered.status_code == 200 and answered.url.path == "/work"
        assert first.get("/people").status_code == 200
        assert second.get(path).status_code == 404 and "used already" in second.get(path).text
        assert second.post(path, data={"name": "The Second", "password": PASSWORD}).status_code == 422


def test_an_invited_labeler_is_one_form_away_from_practice_with_an_experts_reasons(studio):
    studio.task(purpose="practice", expected={"ranks": [0, 1], "strength": 4, "reasons": "The second one **insults**."})
    with studio.client() as client:
        page = client.post(invite(studio), data={"name": "Newcomer", "password": PASSWORD, "language": "en"})
        assert page.url.path == "/work" and "practice" in page.text
        action = re.search(r'id="task" method="post" action="([^"]+)"', page.text)[1]
        answered = client.post(action, data={"csrf": csrf(page), "choice": "1"})
        assert "The second one <strong>insults</strong>." in answered.text and "Go on" in answered.text


def test_a_link_is_worth_nothing_once_it_is_old_revoked_or_unknown(studio):
    with studio.client() as client:
        bad = {invite(studio, seconds=-1.0): "has expired", "/join/abc": "is not valid", "/join/" + "é" * 40: "is not valid"}
        for path, said in bad.items():
            page = client.get(path)
            assert page.status_code == 404 and said in page.text
            assert client.post(path, data={"name": "Somebody", "password": PASSWORD}).status_code == 422


@pytest.mark.parametrize(("name", "password", "said"), [
    ("Ann", "short", "5 characters"), ("Ann", "aaaaaaaaaaaa", "easily guessed"), ("correct name", "Correct Name", "easily guessed"),
    ("", PASSWORD, "name is empty"), ("x" * 61, PASSWORD, "61 characters"),
    ("Ann\u202e", PASSWORD, "invisible"), ("Ann", "x" * 501, "501")])
def test_a_refused_form_says_why_and_leaves_the_link_open(studio, name, password, said):
    path = invite(studio)
    with studio.client() as client:
        page = client.post(path, data={"name": name, "password": password})
        assert page.status_code == 422 and said in page.text
        assert client.get(path).status_code == 200


@pytest.fixture
def known(studio) -> str:
    """The name of an account whose password is PASSWORD."""
    number = len(studio.store.write(lambda conn: accounts.list_people(conn)))
    name = f"Élise {number}"
    hashed = accounts.hash_password(PASSWORD)
    studio.store.write(lambda conn: accounts.add_account(conn, name=name, role="labeler", password_hash=hashed, now=studio.store.now()))
    return name


def test_signing_in_and_out(studio, known):
    with studio.client() as client:
        assert client.get("/work").url.path == "/login"
        page = client.post("/login", data={"name": known.upper(), "password": PASSWORD, "next": "/me"})
        assert page.url.path == "/me" and known in page.text
        cookie = next(iter(client.cookies.jar))
        assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite").lower() == "lax"
        assert client.post("/logout", data={"csrf": csrf(page)}).url.path == "/login"
        client.cookies.set(cookie.name, cookie.value, domain="127.0.0.1")
        assert client.get("/me").url.path == "/login"                # the key is dead, not only forgotten


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/%2f/evil.example"])
def test_after_signing_in_one_stays_on_this_site(studio, known, back):
    with studio.client() as client:
        answered = client.post("/login", data={"name": known, "password": PASSWORD, "next": back}, follow_redirects=False)
        assert answered.headers["location"] == "/work"


def test_wrong_passwords_lock_the_account_and_the_page_says_the_same_as_of_a_name_nobody_has(studio, known):
    clock = studio.store.now()
    with studio.client() as client:
        first = client.post("/login", data={"name": known, "password": "wrong wrong"})
        nobody = client.post("/login", data={"name": "nobody at all", "password": "wrong wrong"})
        assert first.status_code == nobody.status_code == 401 and "do not match" in first.text and "do not match" in nobody.text
        account = _account(studio, known)
        for _ in range(accounts.FREE_FAILURES):
            studio.store.write(lambda conn: accounts.note_login(conn, account, succeeded=False, now=clock))
        locked = client.post("/login", data={"name": known, "password": PASSWORD})
        assert locked.status_code == 401 and locked.text == first.text


def test_thousands_whom_a_file_named_leave_room_for_those_with_an_account(studio, known):
    def make(conn):
        for i in range(1000):
            add_labeler(conn, name=f"aa worker {i}", now=studio.store.now())
    studio.store.write(make)
    with studio.client(studio.person("admin")) as client:
        page = client.get("/people")
        assert len(page.text) < 600_000 and known in page.text and "in the CSV" in page.text
        assert "aa worker 999" not in page.text
        found = client.get("/people", params={"find": "WORKER 999"}).text
        assert "aa worker 999" in found and known not in found
        table = client.get("/people/everybody.csv").text
    assert table.count("aa worker") == 1000 and known in table
    with studio.client(studio.person()) as client:
        assert client.get("/people/everybody.csv").status_code == 404


def _account(studio, name: str) -> int:
    with studio.store.read() as conn:
        return next(row["id"] for row in accounts.list_people(conn) if row["name"] == name)


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_another_sites_form_does_not_sign_anybody_in(studio, known, headers):
    with studio.client() as client:
        assert client.post("/login", data={"name": known, "password": PASSWORD}, headers=headers).status_code == 403


def test_another_host_name_is_not_answered(studio):
    assert httpx2.get(studio.url + "/login", headers={"host": "evil.example"}).status_code == 421


def test_a_form_without_its_token_or_with_another_sessions_does_nothing(studio):
    one, other = studio.person(), studio.person()
    with studio.client(one) as mine, studio.client(other) as theirs:
        foreign = csrf(theirs.get("/me"))
        for token in ("", "00" * 64, foreign, "zz", foreign[:-2]):
            assert mine.post("/me/settings", data={"csrf": token, "theme": "dark"}).status_code == 403
        own = csrf(mine.get("/me"))
        assert own != csrf(mine.get("/me")), "the mask is fresh on every page"
        assert mine.post("/me/settings", data={"csrf": own, "theme": "dark"}).status_code == 200
        assert 'data-theme="dark"' in mine.get("/me").text and 'data-theme="auto"' in theirs.get("/me").text


def test_sessions_are_listed_and_closed_by_their_owner_only(studio):
    one, other = studio.person(), studio.person()
    agent = "Mozilla/5.0 (X11; Linux) Firefox/145.0"
    second = studio.store.write(lambda conn: accounts.open_session(conn, one.id, now=studio.store.now(), user_agent=agent))
    with studio.client(one) as mine, studio.client(other) as theirs:
        page = mine.get("/me")
        assert "Firefox 145, Linux" in page.text
        number = re.search(r'action="/me/sessions/(\d+)/revoke"', page.text)[1]
        theirs.post(f"/me/sessions/{number}/revoke", data={"csrf": csrf(theirs.get("/me"))})
        with studio.store.read() as conn:
            assert accounts.find_session(conn, second, now=studio.store.now()) is not None
        mine.post(f"/me/sessions/{number}/revoke", data={"csrf": csrf(page)})
        with studio.store.read() as conn:
            assert accounts.find_session(conn, second, now=studio.store.now()) is None


@pytest.mark.parametrize(("role", "pages"), [("labeler", {"/people": 404}), ("expert", {"/people": 404}), ("lead", {"/people": 200}),
                                             ("admin", {"/people": 200})])
def test_pages_show_themselves_to_those_they_are_for(studio, role, pages):
    with studio.client(studio.person(role)) as client:
        assert {path: client.get(path).status_code for path in pages} == pages
        assert ('href="/people"' in client.get("/me").text) == (pages["/people"] == 200)


def test_a_lead_cannot_make_an_admin_nor_change_anybody(studio):
    lead, labeler = studio.person("lead"), studio.person()
    with studio.client(lead) as client:
        token = csrf(client.get("/people"))
        assert client.post("/people/invites", data={"csrf": token, "role": "admin"}).status_code == 422
        assert "/join/" in client.post("/people/invites", data={"csrf": token, "role": "labeler"}).text
        for path in (f"/people/{labeler.id}/disable", f"/people/{labeler.id}/role", "/people/tokens"):
            assert client.post(path, data={"csrf": token, "role": "lead"}).status_code == 404


def test_shutting_somebody_out_works_at_once(studio):
    admin, labeler = studio.person("admin"), studio.person()
    with studio.client(admin) as client, studio.client(labeler) as theirs:
        assert theirs.get("/me").url.path == "/me"
        client.post(f"/people/{labeler.id}/disable", data={"csrf": csrf(client.get("/people"))})
        assert theirs.get("/me").url.path == "/login"


def test_no_key_stands_in_the_store(studio):
    person = studio.person()
    with studio.store.read() as conn:
        kept = [value for row in conn.execute(sessions.select()) for value in row]
    assert person.key not in kept and accounts.digest(person.key) in kept


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/style.css", "/nowhere", "/work/0",
                                  "/work/99999999999999", "/work/1/answers/x", "/docs", "/openapi.json"])
def test_what_is_not_there_is_not_there(studio, path):
    with studio.client(studio.person()) as client:
        assert client.get(path).status_code in (404, 405)


def test_a_hammered_door_closes(start, tmp_path):
    _, said = start("--db", str(tmp_path / "s.db"), "--port", "0", lines=2)
    url = re.search(r"http://\S+", said[0])[0]
    with httpx2.Client(base_url=url) as client:
        codes: list[int] = []
        while 429 not in codes and len(codes) < 300:                 # it refills meanwhile, however slow this machine is just now
            codes.append(client.post("/join/none", data={"name": "a", "password": "b" * 12}).status_code)
    assert codes[-1] == 429 and codes.count(422) == len(codes) - 1 >= 40


def test_an_admin_erases_somebody_whose_name_they_type(studio):
    gone, admin, lead = studio.person(), studio.person("admin"), studio.person("lead")
    with studio.client(gone) as theirs, studio.client(admin) as ours, studio.client(lead) as leads:
        page, action = ours.get("/people"), f"/people/{gone.id}/erase"
        assert f'action="{action}"' in page.text and "/erase" not in leads.get("/people").text
        assert leads.post(action, data={"csrf": csrf(leads.get("/people")), "name": gone.name}).status_code == 404
        other = ours.post(action, data={"csrf": csrf(page), "name": "somebody"})
        assert other.status_code == 409 and "that is not the name" in other.text and theirs.get("/me").url.path == "/me"
        done = ours.post(action, data={"csrf": csrf(page), "name": gone.name})
        assert f"Erased: labeler {gone.name}." in done.text and "written over" in done.text and "drafts in their own browser" in done.text
        assert theirs.get("/me").url.path == "/login" and gone.name not in ours.get("/people").text
        assert action not in ours.get("/people").text
