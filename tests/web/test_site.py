"""The guard before every web app, driven as ASGI: which requests come through, and what they carry back."""

from __future__ import annotations

import asyncio

import pytest

from tutelage.base.errors import ConfigError
from tutelage.web.limits import Limiter
from tutelage.web.site import MAX_BODY_BYTES, Guard, Site, TooLarge

HERE = Site(port=8600)
PUBLIC = Site(host="0.0.0.0", port=8600, public_url="https://studio.example.org")


def ask(site: Site, method: str = "GET", body: list[bytes] = (b"",), **headers: str):
    """(status, headers, scope as the app saw it or None)."""
    seen: list[dict] = []

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    chunks = [{"type": "http.request", "body": part, "more_body": i + 1 < len(body)} for i, part in enumerate(body)]
    sent: list[dict] = []

    async def receive():
        return chunks.pop(0)

    async def send(message):
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": raw, "client": ("127.0.0.1", 5), "scheme": "http"}
    asyncio.run(Guard(app, site)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), seen[0] if seen else None


@pytest.mark.parametrize("host", ["127.0.0.1:8600", "localhost:8600", "[::1]:8600", "LOCALHOST:8600"])
def test_this_machine_is_answered(host):
    assert ask(HERE, host=host)[0] == 200


@pytest.mark.parametrize(("host", "url"), [("::1", "http://[::1]:8600"), ("127.0.0.2", "http://127.0.0.2:8600")])
def test_another_address_of_this_machine_is_said_as_it_is_listened_on_and_answered(host, url):
    site = Site(host=host, port=8600)
    assert site.url == url and ask(site, host=url.removeprefix("http://"), method="POST", origin=url)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8600", "127.0.0.1", "127.0.0.1:8601", "", "studio.example.org"])
def test_another_host_name_is_not_answered(host):
    status, _, seen = ask(HERE, host=host)
    assert (status, seen) == (421, None)


def test_behind_tls_only_the_public_name_is_answered():
    assert ask(PUBLIC, host="studio.example.org")[0] == 200
    assert ask(PUBLIC, host="127.0.0.1:8600")[0] == 421


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"},
                                     {"origin": "http://127.0.0.1:8601"}, {"sec_fetch_site": "same-site"}])
def test_a_form_of_another_site_is_refused(headers):
    assert ask(HERE, "POST", host="127.0.0.1:8600", **headers)[0] == 403


@pytest.mark.parametrize("headers", [{"origin": "http://127.0.0.1:8600", "sec_fetch_site": "same-origin"}, {}, {"sec_fetch_site": "none"}])
def test_a_form_of_this_site_or_of_no_browser_comes_through(headers):
    assert ask(HERE, "POST", host="127.0.0.1:8600", **headers)[0] == 200


def test_a_body_is_bounded_by_what_it_says_and_by_what_comes():
    assert ask(HERE, "POST", host="127.0.0.1:8600", content_length=str(MAX_BODY_BYTES + 1))[0] == 413
    assert ask(HERE, "POST", host="127.0.0.1:8600", content_length="-1")[0] == 413
    with pytest.raises(TooLarge):
        ask(HERE, "POST", [b"x" * (MAX_BODY_BYTES // 2 + 1)] * 2, host="127.0.0.1:8600")


def test_every_answer_carries_the_strict_policy():
    for site, host in ((HERE, "127.0.0.1:8600"), (PUBLIC, "studio.example.org")):
        headers = ask(site, host=host)[1]
        policy = headers[b"content-security-policy"].decode()
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert headers[b"x-content-type-options"] == b"nosniff" and headers[b"cache-control"] == b"no-store"
        assert (b"strict-transport-security" in headers) == (site is PUBLIC)


def test_the_address_of_the_caller_is_the_one_the_proxy_saw():
    assert ask(PUBLIC, host="studio.example.org", x_forwarded_for="6.6.6.6, 203.0.113.9")[2]["client"][0] == "203.0.113.9"
    assert ask(HERE, host="127.0.0.1:8600", x_forwarded_for="6.6.6.6")[2]["client"][0] == "127.0.0.1"


@pytest.mark.parametrize(("site", "said"), [({"host": "0.0.0.0"}, "in the clear"), ({"host": "192.168.1.5"}, "in the clear"),
                                            ({"public_url": "http://a.example"}, "not the address"),
                                            ({"public_url": "https://a.example/x"}, "not the")])
def test_an_open_address_without_tls_is_refused(site, said):
    with pytest.raises(ConfigError, match=said):
        Site(**site)


def test_a_bucket_empties_and_refills():
    clock = [0.0]
    limiter = Limiter(per_minute=60, burst=3, clock=lambda: clock[0])
    assert [limiter.wait("a") for _ in range(4)] == [0, 0, 0, 1.0] and limiter.wait("b") == 0
    clock[0] = 1.0
    assert limiter.wait("a") == 0 and limiter.wait("a") == 1.0


def test_many_addresses_do_not_fill_the_memory():
    limiter = Limiter(per_minute=1, burst=1, max_keys=100, clock=lambda: 0.0)
    for i in range(1000):
        limiter.wait(str(i))
    assert len(limiter._buckets) == 100
