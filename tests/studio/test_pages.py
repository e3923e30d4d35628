"""What every page is made of: vendored code by its hash, no outside host, every file served, every word there."""

from __future__ import annotations

import re
import string
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

from tutelage.base.errors import ArtifactError
from tutelage.feedback.each_labeler import CHECKS
from tutelage.feedback.flow import OUTCOMES
from tutelage.feedback.items import MADE
from tutelage.feedback.reports import FROM_LABELERS, INBOX, VERDICTS
from tutelage.feedback.schema import PURPOSES
from tutelage.feedback.store import Store
from tutelage.feedback.values import FLAGS, STYLES
from tutelage.studio.app import create_studio
from tutelage.studio.me import THEMES, WARNINGS
from tutelage.web import assets
from tutelage.web.session import WRITTEN
from tutelage.web.site import Site
from tutelage.web.words import Words

SRC = Path(__file__).parents[2] / "src" / "tutelage"
FILES = [path for room in ("web", "studio") for path in sorted((SRC / room).rglob("*")) if path.suffix in (".html", ".css", ".js", ".svg")]
OWN = [path for path in FILES if path.name != "htmx.min.js"]
TEMPLATES = [path for path in FILES if path.suffix == ".html"]
WORDS = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in (SRC / "studio" / "words").glob("*.toml")}


def test_vendored_code_is_what_was_published(monkeypatch):
    entry = tomllib.loads((SRC / "web" / "static" / "vendor.toml").read_text())["htmx.min"]
    # The hash of dist/htmx.min.js in the package htmx.org 4.0.1 as its registry serves it.
    assert entry["sha256"] == "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130" and entry["version"] == "4.0.1"
    assets.check_vendored()
    monkeypatch.setattr(assets.hashlib, "sha256", lambda data: sha256(data + b"x"))
    with pytest.raises(ArtifactError, match="not the vendored htmx.org"):
        assets.check_vendored()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_page_names_an_outside_host(path):
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")      # a name of a language, which nobody fetches
    assert not re.findall(r"https?:|(?:src|href|url\(|@import)\s*[=(]?\s*[\"']?//", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_carries_script_or_style(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"<script(?! src=)|<style|\son\w+=|\sstyle=|hx-on|\bjs:|\|\s*safe", text)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_changes_something_carries_the_token(path):
    if path.name in ("join.html", "login.html"):                      # the doors: no session yet; the origin is checked
        return
    forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", path.read_text(encoding="utf-8"), re.S)
    assert [form[:80] for form in forms if 'name="csrf"' not in form] == []


def test_every_static_file_a_page_names_is_served(studio):
    names = {name for path in TEMPLATES for name in re.findall(r"asset\('([^']+)'\)", path.read_text(encoding="utf-8"))}
    known = assets.Assets("tutelage.web", "tutelage.studio")
    assert names == {"icon.svg", "style.css", "htmx.min.js", "studio.js"}
    with studio.client() as client:
        for name in names:
            assert client.get(known.url(name)).status_code == 200


def asked_in(paths: list[Path]) -> set[str]:
    """Keys that files ask for by their whole name."""
    asked = re.compile(r"""(?:\bt\(['"]|say\(\s*(?:[\w.]+, )?(?:[\w.]+, )?")(\w+)['"][,)\s]""")
    return {key for path in paths for key in asked.findall(path.read_text(encoding="utf-8")) if not key.endswith("_")}


def used_words() -> set[str]:
    """Keys that templates and code ask for; those put together from parts are listed by their parts."""
    direct = asked_in([*TEMPLATES, *(SRC / "studio").glob("*.py"), *(SRC / "web").glob("*.py")])
    kinds = ("comparison", "ranking", "rating", "label", "prompt", "demonstration", "critique", "edit", "conversation")
    made = {f"{part}_{kind}" for part in ("title", "ask") for kind in kinds} | {f"flag_{flag}" for flag in FLAGS}
    made |= {f"warning_{kind}" for kind in WARNINGS} | {f"strength_{n}" for n in range(1, 5)} | {f"theme_{n}" for n in THEMES}
    made |= {f"role_{role}" for role in ("system", "user", "assistant", "tool", "text", "labeler", "expert", "lead", "admin")}
    made |= {f"skip_{reason}" for reason in ("knowledge", "unclear", "broken", "uneasy", "other")}
    made |= {f"check_{check}" for check in CHECKS} | {f"purpose_{purpose}" for purpose in PURPOSES} | {f"yield_{name}" for name in OUTCOMES}
    made |= {f"accuracy_{side}" for side in ("all", "training", "held_out", "gap", "group", "labeler")}
    made |= {f"agreement_{name}" for name in ("raw", "alpha_nominal", "alpha_ordinal", "alpha_interval", "alpha_steps", "fleiss", "kappa",
                                              "kappa_weighted", "tau_b")} | {"reliability_pairs", "reliability_labels"}
    made |= {f"report_{kind}" for kind in INBOX} | {f"{kind}{part}" for kind in FROM_LABELERS for part in ("", "_what", "_button")}
    made |= {f"verdict_kept_{verdict}" for verdict in VERDICTS} | {"side_train", "side_held_out"}
    made |= {"practice", "screening"} | {f"screening_{state}" for state in ("new", "waiting", "working", "passed", "failed")}
    made |= {f"screened_{state}{part}" for state in ("failed", "waiting") for part in ("", "_text")}
    made |= {f"purpose_{purpose}_what" for purpose in MADE}
    made |= {f"baseline_{name}" for name in ("model", "coin", "length", "bag_of_words")} | {
        f"training_measure_{name}" for name in ("accuracy", "auc")}
    made |= {f"writing_{style}{part}" for style in STYLES for part in ("", "_short")} | {"import_hint_columns", "import_hint_as"}
    made |= {f"run_{state}" for state in ("done", "failed", "running")}
    made |= {f"task_{state}" for state in ("open", "done", "halted")}
    made |= {f"talk_failed_{reason}" for reason in ("none", "busy", "unreachable", "refused", "slow", "wrong")}
    made |= {f"{why}{part}" for why in ("signed_out", "stale", "error_too_large") for part in ("", "_hint", "_copy", "_kept")}
    errors = {f"error_{error}" for error in ("forbidden", "not_found", "too_large", "too_often", "unexpected")}
    return direct | made | errors | {f"{error}_hint" for error in errors} | {"language_name", "yes", "no", "submitted"}


def test_english_says_everything_that_is_asked_for_and_nothing_else():
    assert used_words() - WORDS["en"].keys() == set() and WORDS["en"].keys() - used_words() == set()


@pytest.mark.parametrize("language", sorted(set(WORDS) - {"en"}))
def test_another_language_says_the_same_things_with_the_same_names_filled_in(language):
    def names(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert WORDS[language].keys() <= WORDS["en"].keys()
    assert [key for key, text in WORDS[language].items() if names(text) != names(WORDS["en"][key])] == []


def labelers_words() -> set[str]:
    """Keys of the pages that are not a lead's, and of what stands beside them in the code; those put together from parts by their parts."""
    rooms = ("lead", "dashboard", "models", "numbers", "people", "quality")
    theirs = [path for path in TEMPLATES if not path.stem.startswith(rooms)]
    theirs += [SRC / "studio" / f"{room}.py" for room in ("join", "me", "say", "talk", "view", "work")]
    parts = ("ask_", "error_", "flag_", "role_", "signed_out", "stale", "screened_", "skip_", "strength_", "talk_failed_", "theme_", "title_", "warning_")
    return asked_in(theirs) & WORDS["en"].keys() | {key for key in WORDS["en"] if key.startswith(parts)}


def test_german_says_all_that_a_labeler_can_see_and_the_whole_page_of_people():
    people = asked_in([SRC / "studio" / "templates" / "people.html", SRC / "studio" / "people.py"]) & WORDS["en"].keys()
    assert {"submit", "undo", "talk_send", "people_erase_button", "error_not_found"} <= labelers_words() | people
    assert (labelers_words() | people) - WORDS["de"].keys() == set()


def test_what_a_language_lacks_is_said_in_english():
    words = Words("tutelage.studio")
    lacking = next(key for key in WORDS["en"] if key not in WORDS["de"])
    assert words.say("de", "submit") == "Abschicken" and words.say("de", lacking) == WORDS["en"][lacking]
    assert [words.choose(header) for header in ("de-AT,en;q=0.5", "fr, de;q=0.1", None, "*")] == ["de", "de", "en", "en"]


def test_a_labelers_pages_come_in_their_language(studio):
    with studio.client() as client:
        assert "Anmelden" in client.get("/login", headers={"accept-language": "de"}).text


def test_an_error_without_a_hint_says_no_none(tmp_path):
    with Store.open(tmp_path / "studio.db") as store:
        page = create_studio(store, Site()).state.web.pages.get_template("alert.html").render(error="an <empty> prompt", hint=None)
    assert re.sub(r"<[^>]+>", "", page).strip() == "an &lt;empty&gt; prompt."


def test_what_is_typed_in_any_box_is_given_back_where_its_form_is_not_taken():
    names = {name for path in TEMPLATES for name in re.findall(r'<textarea[^>]* name="([^"{]+)"', path.read_text())}
    assert len(names) > 3 and all(WRITTEN.fullmatch(name) for name in names)
