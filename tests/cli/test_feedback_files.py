"""`tutelage feedback import`, `stats` and `export` as a person types them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.cli.feedback_files import FORMATS, TO_JUDGE
from tutelage.cli.main import main
from tutelage.feedback.content import add_prompt
from tutelage.feedback.io.exporting import FORMS, KINDS
from tutelage.feedback.store import Store

ROWS = [{"q": "tea?", "a": "yes", "b": "no", "votes": [1, 2, 0], "kept": True},
        {"q": "milk?", "a": "yes", "b": "no", "votes": [1, 1, None]}]
COLUMNS = ["--column", "prompt=q", "--column", "response_a=a", "--column", "response_b=b", "--column", "winner=votes.*",
           "--column", "labeler=votes.#", "--verdict", "0=tie"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a verb of `tutelage feedback` on a store of its own; returns (exit code, stdout, stderr)."""
    monkeypatch.setenv("TUTELAGE_DATABASE_URL", str(tmp_path / "studio.db"))
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["feedback", *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    yield call
    signal.signal(signal.SIGTERM, before)


def test_in_counted_and_out(run, tmp_path):
    code, out, _ = run("import", "a.jsonl", *COLUMNS, "--batch", "first")
    assert code == 0 and out.splitlines() == [
        "read      5", "new       2 prompts, 4 responses, 2 tasks, 3 labelers, 5 judgements", "known     0", "rejected  0"]
    assert run("import", "a.jsonl", *COLUMNS, "--batch", "first")[1].splitlines()[1:3] == ["new       nothing", "known     5"]
    code, out, _ = run("stats", "--json", "--resamples", "0")
    [agreement] = json.loads(out)["agreement"]
    # Pairs of labels: first-second, first-tie, second-tie of one item, first-first of the other; so one of four agrees.
    assert (agreement["batch"], agreement["kind"], agreement["raw"]["value"], agreement["raw"]["n"]) == ("first", "comparison", 0.25, 4)
    assert "first: 5 comparison judgements of 2 items by 3 labelers" in run("stats")[1]
    code, out, _ = run("export", "b.json", "--to", "label-studio")
    assert code == 0 and "judgements: 5" in out and len(json.loads((tmp_path / "b.json").read_text())) == 2


def test_where_and_as_choose_what_is_read_and_what_for(run):
    assert run("import", "a.jsonl", *COLUMNS, "--where", "kept=true")[1].startswith("read      3\n")
    code, out, _ = run("import", "a.jsonl", "--column", "prompt=q", "--as", "demonstration", "--overlap", "3", "--json")
    assert json.loads(out)["new"] == {"prompts": 1, "tasks": 2}
    assert run("import", "a.jsonl", "--where", "kept")[0] == 2
    assert run("import", "a.jsonl", "--overlap", "1001")[0] == 2


def test_many_rejected_rows_make_the_exit_code_1_and_are_told_by_reason_and_line(run):
    code, out, _ = run("import", "a.jsonl", *COLUMNS[:-2])
    assert code == 1 and "0 names neither of two answers (a and b, 1 and 2, or tie) (first: a.jsonl:1)" in out
    assert run("import", "a.jsonl", *COLUMNS[:-2], "--max-rejected-frac", "0.5")[0] == 0


def test_a_file_that_is_no_feedback_is_one_line_with_a_hint(run, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"prompt": "hi"}\n')
    code, out, err = run("import", "b.jsonl")
    assert (code, out) == (1, "") and err.splitlines()[0] == "error: b.jsonl has the layout prompt, in which nothing is judged"
    assert err.splitlines()[1].startswith("hint:  ") and len(err.splitlines()) == 2


@pytest.mark.parametrize("verb", [
    ("stats",), ("export", "b.jsonl", "--to", "judgements"), ("snapshot",), ("erase", "--labeler", "1", "--yes"), ("simulate",),
    ("retrain", "--policy", "runs/none"), ("scores", "a.jsonl", "--model", "m"), ("prompts", "b.jsonl")])
def test_who_only_reads_makes_no_database(run, tmp_path, verb):
    code, out, err = run(*verb, "--db", "typo.db")
    assert code == 1 and out == "" and err.startswith("error: there is no database typo.db\nhint:  name it with --db")
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize(("wrong", "code", "said"), [(("--overlap", "99999999999999999999"), 2, "overlap"), (("--batch", "\udc80"), 0, "")])
def test_an_import_takes_no_number_the_database_cannot_hold_and_mends_its_names(run, wrong, code, said):
    found = run("import", "a.jsonl", *COLUMNS, *wrong)
    assert found[0] == code and said in found[2] and "bug" not in found[2]


def test_an_empty_store_has_nothing_to_agree_on(run, tmp_path):
    Store.open(tmp_path / "studio.db").close()
    code, out, _ = run("stats")
    assert code == 0 and out.startswith("judgements  0 (none)")
    assert run("export", "b.jsonl", "--to", "judgements")[0] == 1


def test_prompts_of_held_out_users_stay_in_the_store_and_are_counted(run, tmp_path):
    with Store.open(tmp_path / "studio.db") as store:
        for split in ("train", "held_out"):
            store.write(lambda conn, split=split: add_prompt(conn, content=f"{split}?", source="customer", split=split, now=1.0))
    assert run("prompts", "p.jsonl") == (0, "file: p.jsonl\nprompts: 1\nskipped.held out: 1\n", "")
    assert json.loads((tmp_path / "p.jsonl").read_text())["prompt"] == "train?"


def test_the_help_names_what_there_is():
    assert tuple(FORMS) == FORMATS and {*KINDS} == {*TO_JUDGE}


def test_a_person_is_erased_by_name_after_a_look_at_what_would_go(run, tmp_path):
    run("import", "a.jsonl", *COLUMNS)
    assert run("erase")[0] == 2 and "no labeler '4'" in run("erase", "--labeler", "4", "--yes")[2]
    code, out, _ = run("erase", "--labeler", "1", "--dry-run")
    assert code == 0 and out.splitlines()[:2] == ["labeler 1: this would go", "store       2 judgements"]
    told = json.loads(run("erase", "--labeler", "1", "--yes", "--json")[1])
    assert told["counts"] == {"judgements": 2} and told["scrubbed"] and "a.jsonl they came in with, 2 rows" in told["unreached"][0]
    assert run("stats", "--resamples", "0")[1].startswith("judgements  3 ")
    assert run("import", "a.jsonl", *COLUMNS)[1].splitlines()[2:4] == ["known     3", "rejected  2"]


def test_a_customers_file_tells_what_was_masked_and_what_stayed_outside_and_why(run, tmp_path):
    words = "please tell me all you know about the birds that come to our garden when snow lies on it, and what they eat"
    rows = [{"prompt": f"{start} a@example.com", "user": "u", "agreed": agreed}
            for start, agreed in (("mail", True), ("write", False), (words, True), (words + ", and where they sleep", True))]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("import", "c.jsonl", "--as", "demonstration", "--source", "customer", "--column", "consent=agreed", "--column",
               "prompt=prompt", "--column", "user=user")
    code, out, _ = run(*command)
    assert code == 0 and out.splitlines() == ["read      4", "new       2 prompts, 2 tasks", "known     0", "masked    4 rows (4 email)",
                                              "left out  2 rows (1 no consent, 1 shares a long prefix)", "rejected  0"]
    assert json.loads(run(*command, "--json")[1])["left_out"] == {"no consent": 1, "shares a long prefix": 1}


@pytest.mark.parametrize(("wrong", "code", "said"), [
    (("--where", "kept=maybe"), 1, 'no row of a.jsonl has kept="maybe"'),
    (("--column", "item={q"), 2, "columns.item: {q has a brace without its other half"),
    (("--column", "prompt=a"), 2, "--column prompt is given twice"), (("--batch", "b" * 201), 2, "a batch's name of 201 characters")])
def test_options_that_mean_nothing_are_refused_and_add_nothing(run, tmp_path, wrong, code, said):
    found = run("import", "a.jsonl", *COLUMNS, *wrong)
    assert (found[0], found[1]) == (code, "") and found[2].startswith(f"error: {said}") and "\nhint:  " in found[2]
    assert not (tmp_path / "studio.db").exists() or run("stats")[1].startswith("judgements  0 (none)")


def test_counts_of_a_batch_that_is_not_there_are_refused_with_the_nearest_name(run):
    run("import", "a.jsonl", *COLUMNS, "--batch", "first")
    assert run("stats", "--batch", "frst") == (2, "", "error: there is no batch 'frst' (did you mean first?)\nhint:  one of: first\n")
    assert run("stats", "--batch", "first")[0] == 0


def test_a_table_of_which_no_row_fits_is_told_to_look_at_the_table(run, tmp_path):
    (tmp_path / "b.csv").write_text("prompt,label\nonly one cell\nagain one\n")
    code, _, err = run("import", "b.csv")
    assert code == 1 and "1 cells under 2 columns" in err and "hint:  check the table's first line and its cells" in err
