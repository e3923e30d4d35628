"""Rows passed over by a field; texts parted into opening and rest."""

from __future__ import annotations

import pytest

from tests.text.test_readers import jsonl
from tutelage.base.errors import DataError
from tutelage.text.readers import read_documents, read_judgements, read_prompts

ROW = {"prompt": "tea?", "chosen": "yes", "rejected": "no"}


def test_rows_without_the_fields_asked_for_are_passed_over_and_not_counted_as_rejected(tmp_path):
    rows = [ROW | {"strict": strict, "n": n} for n, strict in enumerate([True, False, True, None])] + [ROW]
    file = jsonl(tmp_path / "p.jsonl", *rows)
    found = read_judgements(file, where={"strict": True})
    assert len(found.rows) == 2 and found.rejected == []
    assert len(read_judgements(file, where={"strict": True, "n": 2}).rows) == 1
    with pytest.raises(DataError) as error:
        read_judgements(file, where={"strict": "1x"})
    assert "data.where" in error.value.hint


def test_cells_of_a_table_of_text_are_compared_as_text(tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("prompt,chosen,rejected,strict,n\na,b,c,True,2\na,c,d,false,2\na,d,e,true,3\n")
    assert len(read_judgements(file, where={"strict": True}).rows) == 2 and len(read_judgements(file, where={"n": 2}).rows) == 2


def test_a_row_passed_over_keeps_the_line_numbers_of_the_others(tmp_path):
    bad = ROW | {"chosen": "", "strict": True}
    file = jsonl(tmp_path / "p.jsonl", ROW, ROW, bad, *[ROW | {"strict": True}] * 20)
    assert [r.line for r in read_judgements(file, where={"strict": True}).rejected] == [3]


def test_a_text_is_parted_into_a_raw_opening_and_its_rest(tmp_path):
    text = " the old\nfilm is  not bad"
    more = [{"text": f"{i} b c d e", "label": 0} for i in range(10)]
    rows = [{"text": text, "label": label} for label in (1, 0)] + [{"text": "too short", "label": 1}, *more]
    found = read_judgements(jsonl(tmp_path / "t.jsonl", *rows), opening_words=3)
    first, second = found.rows[:2]
    assert first.prompt == " the old\nfilm" and first.responses[0].text == " is  not bad" and (first.label, second.label) == (True, False)
    assert first.prompt + first.responses[0].text == text
    assert [r.reason for r in found.rejected] == ["nothing stands after the first 3 words"]
    assert read_prompts(tmp_path / "t.jsonl", opening_words=3).rows[0] == " the old\nfilm"
    assert read_documents(tmp_path / "t.jsonl").rows[0] == text
