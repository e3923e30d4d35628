"""Files of every kind hold the same rows; what is too long, too dense or broken is refused within bounded memory."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import sys
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tutelage.base.errors import ConfigError, DataError, MissingExtraError
from tutelage.text import lines, tables
from tutelage.text.convert import _write_csv
from tutelage.text.lines import Rejected, read_json_array, read_json_lines
from tutelage.text.readers import read_demonstrations, read_judgements, read_prompts
from tutelage.text.tables import kind_of, read_rows, safe_marked, safe_unmarked

TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello\nyou"}]
ROWS = [{"messages": TALK}, {"messages": [*TALK, {"role": "user", "content": "tea?"}, {"role": "assistant", "content": "yes"}]}]
json_values = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3)
                           | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)


def numbered(path: Path) -> list:
    return list(read_rows(path))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(json_values, max_size=6), st.sampled_from([None, 1, "\t"]), st.integers(1, 9), st.booleans())
def test_an_array_is_read_as_json_reads_it_however_it_is_cut_into_pieces(tmp_path, values, indent, piece, bom):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" * bom + json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_PIECE", piece)
        found = list(read_json_array(path))
    assert [row if isinstance(row, dict) else None for _, row in found] == [v if isinstance(v, dict) else None for v in values]


def test_elements_of_an_array_carry_the_line_they_begin_on(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[\n{"a":\n1},\n\n{"a": NaN}, 7,\n{"b": 1, "b": 2}\n]\n')
    assert list(read_json_array(path)) == [(2, {"a": 1}), (5, Rejected(path, 5, "the number NaN")),
                                           (5, Rejected(path, 5, "a JSON int, not an object")), (6, Rejected(path, 6, "the key 'b' twice"))]


@pytest.mark.parametrize("text, message", [
    ('[{"a": 1},\n{"a": 2', r":2: the JSON array is broken off or damaged here \(not JSON: "),
    ('[{"a": 1}\n', ":2: the JSON array is broken off"), ('[{"a": 1}] {"a": 2}', ":1: text after the end of the JSON array"),
    ("[" * 100_000, "maximum recursion depth")])
def test_a_broken_array_says_where(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_json_array(tmp_path / "a.json"))


def test_a_long_line_is_one_rejected_row_and_is_never_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_ROW_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + json.dumps({"a": "x" * 5000}) + '\n{"a": 2}\n')
    assert [row for _, row in read_json_lines(path) if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert [row.line for _, row in read_json_lines(path) if isinstance(row, Rejected)] == [2]
    monkeypatch.setattr(lines, "_PIECE", 100)
    (tmp_path / "a.json").write_text(json.dumps([{"a": "x" * 5000}]))
    with pytest.raises(DataError, match="a JSON value of more than"):
        list(read_json_array(tmp_path / "a.json"))
    (tmp_path / "a.txt").write_text("x" * 5000)
    with pytest.raises(DataError, match=r"a\.txt:1: a line of more than"):
        read_prompts(tmp_path / "a.txt")


def test_a_gzip_bomb_is_refused_while_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FREE_BYTES", 1 << 20)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 800_000))    # 11 MB in about 30 kB
    with pytest.raises(DataError, match="grows to more than 200 times its size: a gzip bomb"):
        list(read_json_lines(path))
    path.write_bytes(gzip.compress(b"".join(json.dumps({"text": os.urandom(30).hex()}).encode() + b"\n" for _ in range(40_000))))
    assert sum(1 for _ in read_json_lines(path)) == 40_000


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")                               # opening it would wait for ever
    for name, kind in ((tmp_path / "pipe.jsonl", "a pipe"), (tmp_path, "a directory")):
        with pytest.raises(DataError, match=f"is {kind}.*not a file"):
            read_prompts(name)


@pytest.mark.parametrize("name, content, kind", [
    ("a.jsonl", b"{}", "lines"), ("a.json", b" \n[{}]", "array"),
    ("a.ndjson.gz", gzip.compress(b"[1]", mtime=0), "array"),       # a time in the test's name would name it anew in every worker
    ("a.csv", b"x", "csv"), ("a.TSV", b"x", "csv"), ("a.CSV.GZ", b"x", "csv"), ("a.JSON", b"[", "array"),
    ("a.txt", b"{}", "plain"), ("a", b"{}", "lines"), ("a", b"hello", "plain"),
    ("a", b"[hello]", "plain"), ("a", b"PAR1", "parquet"), ("a.parquet", b"", "parquet"), ("a.arrow", b"", "arrow")])
def test_a_file_s_kind_follows_from_its_name_else_from_how_it_begins(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind


def test_csv_cells_become_numbers_truths_and_messages_where_the_column_means_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,label,labeler,weight\n"say ""hi""\nplease",hi,True,7,2\n'
                    '"[{""role"": ""user"", ""content"": ""x""}]",y,0,,\nonly,three,cells\n', encoding="utf-8-sig")
    result = read_judgements(path, max_rejected_frac=0.5)
    first, second = result.rows
    assert (first.prompt[0].content, first.label, first.labeler, first.weight) == ('say "hi"\nplease', True, "7", 2.0)
    assert (second.prompt[0].content, second.label, second.labeler) == ("x", False, None)
    assert [(r.line, r.reason) for r in result.rejected] == [(5, "3 cells under 5 columns")]


@pytest.mark.parametrize("head, separator", [("prompt;completion", ";"), ("prompt\tcompletion", "\t")])
def test_semicolons_and_tabs_part_cells_too(tmp_path, head, separator):
    for path in (tmp_path / name for name in (("a.csv", "A.CSV") if separator == ";" else ("a.tsv", "A.TSV"))):
        path.write_text(f"{head}\n1, 2{separator}3\n")
        assert read_demonstrations(path).rows[0].prompt[0].content == "1, 2"


def test_line_ends_inside_a_cell_are_the_writer_s(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'prompt,completion\r\n"a\r\nb","c\nd"\r\ne,f')
    assert numbered(tmp_path / "a.csv") == [(2, {"prompt": "a\r\nb", "completion": "c\nd"}), (5, {"prompt": "e", "completion": "f"})]


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,completion,prompt\na,b,c\n")
    with pytest.raises(DataError, match=r":1: the column 'prompt' twice"):
        read_demonstrations(tmp_path / "a.csv")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["a.csv", "a.tsv", "a.json", "a.parquet", "a.arrow", "a.jsonl.gz"]), st.binary(max_size=80), st.booleans())
@example("a.csv", b"\r\x00", False)                                 # no row of names
def test_noise_under_any_name_is_refused_in_one_line(tmp_path, name, noise, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(noise) if packed else noise)
    try:
        read_prompts(path, max_rejected_frac=1.0)
    except DataError as error:
        assert "\n" not in str(error) and name in str(error) and error.hint


# -- what the data extra brings ------------------------------------------------------------------------------------------

def test_parquet_and_arrow_of_the_datasets_library_read_as_its_json_does(tmp_path):
    import datasets

    rows = [*ROWS, {"messages": [TALK[0], TALK[1] | {"trained": False}, *TALK]}]     # a field only some messages have: null in the others
    made = datasets.Dataset.from_list(rows)
    made.to_parquet(str(tmp_path / "a.parquet"))
    made.to_json(str(tmp_path / "a.jsonl"))
    made.save_to_disk(str(tmp_path / "folder"))
    [arrow] = (tmp_path / "folder").glob("*.arrow")
    expected = read_demonstrations(tmp_path / "a.jsonl")
    assert [m.trained for m in expected.rows[2].prompt] == [True, False, True]
    for path in (tmp_path / "a.parquet", arrow):
        assert read_demonstrations(path) == expected, path


def test_csv_of_the_datasets_library_comes_back(tmp_path):
    import datasets

    rows = [{"prompt": "a, \"b\"\nc", "chosen": "yes", "rejected": "no", "margin": 0.5}] * 2
    datasets.Dataset.from_list(rows).to_csv(str(tmp_path / "a.csv"))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_judgements(tmp_path / "a.csv") == read_judgements(tmp_path / "a.jsonl")


def test_a_data_set_of_the_hub_is_streamed_by_name_config_and_split(monkeypatch):
    asked = []
    fake = types.SimpleNamespace(load_dataset=lambda *args, **options: asked.append((args, options)) or iter([{"prompt": "hi", "x": None}]))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    assert len(read_prompts("hub:owner/name").rows) == len(read_prompts("hub:owner/name@main:test[:10]").rows) == 1
    assert asked == [(("owner/name", None), {"split": "train", "streaming": True}),
                     (("owner/name", "main"), {"split": "test[:10]", "streaming": True})]
    with pytest.raises(ConfigError, match="not a data set of the hub"):
        read_prompts("hub:owner name")


def test_a_folder_is_a_data_set_to_the_hub_s_library_too(tmp_path):
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "hi"}) + "\n")
    assert read_prompts(f"hub:{tmp_path}").rows == [read_prompts(tmp_path / "data.jsonl").rows[0]]
    with pytest.raises(DataError, match=r"cannot read hub:"):
        read_prompts(f"hub:{tmp_path}/nothing")


@pytest.mark.parametrize("name, package", [("a.parquet", "pyarrow"), ("a.arrow", "pyarrow"), ("hub:owner/name", "datasets")])
def test_without_the_extra_the_pip_command_is_named_and_the_exit_code_is_four(tmp_path, monkeypatch, name, package):
    for module in ("pyarrow", "pyarrow.parquet", "datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    path = name if name.startswith("hub:") else tmp_path / name
    if isinstance(path, Path):
        path.write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=f"needs the package {package}, which is not installed") as caught:
        read_prompts(path)
    assert caught.value.exit_code == 4 and caught.value.hint == "pip install 'tutelage[data]'"


def test_a_parquet_bomb_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    import pyarrow as arrow
    from pyarrow import parquet

    monkeypatch.setattr(tables, "FREE_BYTES", 1 << 20)
    parquet.write_table(arrow.table({"prompt": ["x" * 1000] * 20_000}), tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match=r"the column prompt grows to \d+ times its size: a bomb"):
        read_prompts(tmp_path / "a.parquet")


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0") | st.sampled_from("=+-@＝＋－＠\t\r\n'\",;"), max_size=8)


@given(CELLS)
def test_no_cell_is_a_formula_to_a_spreadsheet_and_each_comes_back(cell):
    # OWASP's list of what begins a formula; a plain number, which only means itself, may begin with its sign.
    written = safe_marked(cell)
    begins = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
    assert not written.startswith(begins) or re.fullmatch(r"-\d+(\.\d+)?([eE][+-]?\d+)?", written)
    assert safe_unmarked(written) == cell


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS.filter(str.strip), CELLS.filter(str.strip)), min_size=1, max_size=5))
def test_a_csv_file_written_here_gives_back_every_character(tmp_path, rows):
    out = tmp_path / "a.csv"
    _write_csv(out, ({"prompt": prompt, "=completion": answer} for prompt, answer in rows))
    assert [dict(row) for _, row in read_rows(out)] == [{"prompt": prompt, "=completion": answer} for prompt, answer in rows]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_value_that_python_cannot_hold_costs_its_row_and_an_unknown_zone_costs_none(tmp_path, name):
    import pyarrow as arrow
    from pyarrow import parquet

    table = arrow.table({"prompt": ["hi", "you", "there"], "zone": arrow.array([1, 2, 3], arrow.timestamp("us", tz="Foo/Bar")),
                         "at": arrow.array([1, 1 << 62, 3], arrow.timestamp("us")),
                         "day": arrow.array([1, 2, 2**31 - 1], arrow.int32()).cast(arrow.date32())})
    if name == "a.parquet":
        parquet.write_table(table, tmp_path / name)
    else:
        with arrow.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    result = read_prompts(tmp_path / name, max_rejected_frac=0.9)
    assert [row[0].content for row in result.rows] == ["hi"]
    assert [(row.line, row.reason.split(" holds")[0]) for row in result.rejected] == [(2, "the column at"), (3, "the column day")]


def test_text_of_a_table_that_is_no_utf_8_is_a_rejected_row(tmp_path):
    import pyarrow as arrow
    from pyarrow import parquet

    texts = arrow.Array.from_buffers(arrow.string(), 3, [None, arrow.py_buffer(struct.pack("4i", 0, 1, 2, 3)), arrow.py_buffer(b"a\xffb")])
    parquet.write_table(arrow.table({"prompt": texts}), tmp_path / "a.parquet")
    found = numbered(tmp_path / "a.parquet")
    assert [found[0], found[2]] == [(1, {"prompt": "a"}), (3, {"prompt": "b"})]
    assert found[1][1].line == 2 and found[1][1].reason.startswith("the column prompt holds what cannot be read ('utf-8' codec")
