"""`tutelage data mask`: every form of file, what stays, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import datetime

import pytest

from tutelage.base.errors import ConfigError, DataError
from tutelage.cli import mask
from tutelage.cli.main import main

ROWS = [{"prompt": [{"role": "user", "content": "I am jane@example.com"}], "chosen": "Hello jane@example.com",
         "rejected": "Call +1 212 555 0123",
         "n": 3, "email": "bob@example.com"}, {"prompt": "no data here", "chosen": "a", "rejected": "b", "n": None}]
MASKED = [{"prompt": [{"role": "user", "content": "I am [EMAIL_1]"}], "chosen": "Hello [EMAIL_1]", "rejected": "Call [PHONE_1]", "n": 3,
           "email": "[EMAIL_2]"}, ROWS[1]]


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_file_of_rows_is_masked_in_any_layout_and_counted(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(lines(ROWS))
    with pytest.raises(SystemExit, match="0"):
        main(["data", "mask", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl.gz"), "--json"])
    assert json.loads(capsys.readouterr().out) == {"file": str(tmp_path / "out.jsonl.gz"), "rows": 2, "rows_with_any": 1, "rejected": {},
                                                   "masked": {"email": 3, "phone": 1}}
    with gzip.open(tmp_path / "out.jsonl.gz", "rt") as file:
        assert [json.loads(line) for line in file] == MASKED


def test_kept_kinds_stay(tmp_path):
    (tmp_path / "in.jsonl").write_text(lines(ROWS))
    done = mask.mask_file(tmp_path / "in.jsonl", tmp_path / "out.json", ["email"])
    assert done["masked"] == {"phone": 1} and "jane@example.com" in (tmp_path / "out.json").read_text()
    with pytest.raises(ConfigError, match="--keep emial: no such kind .did you mean email"):
        mask.mask_file(tmp_path / "in.jsonl", tmp_path / "out2.json", ["emial"])


def test_text_that_is_json_inside_stays_json(tmp_path):
    inner = [{"role": "user", "content": "Hi,\njane@example.com wrote: \"call 020 7946 0958\""}]
    with open(tmp_path / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["prompt", "label"], [json.dumps(inner), "true"], ['{"a": 1}', "false"]])
    mask.mask_file(tmp_path / "in.csv", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert json.loads(rows[0]["prompt"]) == [{"role": "user", "content": "Hi,\n[EMAIL_1] wrote: \"call [PHONE_1]\""}]
    assert rows[1] == {"prompt": '{"a": 1}', "label": "false"}


def test_a_plain_text_keeps_its_lines_and_one_numbering_over_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(mask, "_PIECE_CHARS", 20)
    text = "Dear Bob,\nwrite to jane@example.com\n\nor bob@example.com\n\n\nBest,\nAda King\njane@example.com\n"
    (tmp_path / "in.txt").write_text(text)
    done = mask.mask_file(tmp_path / "in.txt", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == ("Dear [NAME_1],\nwrite to [EMAIL_1]\n\nor [EMAIL_2]\n\n\nBest,\n[NAME_2]\n[EMAIL_1]\n")
    assert done["masked"] == {"email": 3, "name": 2} and done["lines"] == 9


def test_placeholders_of_an_earlier_masking_are_not_given_out_again(tmp_path):
    (tmp_path / "in.jsonl").write_text(lines([{"prompt": "a@example.com", "completion": "[EMAIL_1] and [EMAIL_2]"}]))
    mask.mask_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"prompt": "[EMAIL_3]", "completion": "[EMAIL_1] and [EMAIL_2]"}


def test_parquet_is_masked_in_its_nested_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the data extra is not installed")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist([{"messages": ROWS[0]["prompt"], "score": 0.5}]), tmp_path / "in.parquet")
    mask.mask_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"messages": MASKED[0]["prompt"], "score": 0.5}]


def test_a_column_that_json_cannot_hold_is_named(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the data extra is not installed")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "a", "at": datetime(2024, 3, 12)}]), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="in.parquet:1: .*datetime"):
        mask.mask_file(tmp_path / "in.parquet", tmp_path / "out.jsonl")


@pytest.mark.parametrize("name,out,error,says", [
    ("in.jsonl", "in.jsonl", ConfigError, "already there"), ("in.jsonl", "out.xlsx", ConfigError, "unknown form"),
    ("in.txt", "out.jsonl", ConfigError, "plain text"), ("in.txt", "in.txt", ConfigError, "already there"), ("gone.jsonl", "o.jsonl",
        DataError, "gone"),
    ("bad.jsonl", "o.jsonl", DataError, "2 of 3 rejected"),
])
def test_what_cannot_be_masked_is_refused_and_nothing_is_left(tmp_path, name, out, error, says):
    (tmp_path / "in.jsonl").write_text(lines(ROWS))
    (tmp_path / "in.txt").write_text("jane@example.com\n")
    (tmp_path / "bad.jsonl").write_text('{"a": "b"}\n[]\n3\n')
    with pytest.raises(error, match=says):
        mask.mask_file(tmp_path / name, tmp_path / out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jsonl", "in.jsonl", "in.txt"]


def test_a_few_broken_rows_are_left_out_and_named(tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(lines([{"a": "x"}] * 30) + "[1]\n")
    with pytest.raises(SystemExit, match="0"):
        main(["data", "mask", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")])
    assert "rejected.a JSON list, not an object: 1" in capsys.readouterr().out
