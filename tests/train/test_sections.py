"""Sections that recipes share: what they refuse and what they hand to the readers."""

from __future__ import annotations

import pytest

from tutelage.base.config import load_values
from tutelage.base.errors import ConfigError
from tutelage.train.sections import DataSection, LoraSection


@pytest.mark.parametrize("values, message", [
    ({}, "name files"), ({"files": ["a"], "sources": [{"files": ["b"]}]}, "either files or sources"), ({"sources": [{}]}, "without files"),
    ({"sources": [{"files": ["a"], "eval_frac": 0.5}]}, "eval_frac")])            # one split for all sources, by construction
def test_files_are_named_once_and_the_split_is_not_the_source_s(values, message):
    with pytest.raises(ConfigError, match=message):
        load_values(DataSection, values, where="data")


def test_every_source_keeps_its_own_options():
    sources = [{"files": ["a", "b"], "columns": {"prompt": "x"}, "limit": 5}, {"files": ["c"], "mask_where": {"kind": "call"}}]
    data = DataSection.model_validate({"sources": sources, "limit": 9})
    (first, options), (second, others) = data.each()
    assert (options["limit"], others["limit"]) == (5, 9)
    assert DataSection.model_validate(data.model_dump(mode="json")) == data      # a run's config.yaml reads back equal
    assert (first, options["columns"], options["mask_where"]) == (["a", "b"], {"prompt": "x"}, None)
    assert (second, others["columns"], others["mask_where"]) == (["c"], None, {"kind": "call"})
    assert data.all_files() == ["a", "b", "c"]
    assert DataSection(files=["a"]).each() == [(["a"], DataSection(files=["a"]).read_options())]


@pytest.mark.parametrize("values", [{"targets": ["q_proj"]}, {"alpha": 8}])
def test_adapter_settings_without_a_rank_are_no_silent_full_training(values):
    with pytest.raises(ConfigError, match="without a rank there is no adapter: set lora.rank"):
        load_values(LoraSection, values, where="lora")
    assert load_values(LoraSection, values | {"rank": 0}, where="lora").rank == 0       # turned off, on purpose
    assert LoraSection.model_validate(LoraSection().model_dump(mode="json")) == LoraSection()


def test_one_file_may_stand_without_brackets():
    assert DataSection(files="a.jsonl") == DataSection(files=["a.jsonl"])
    assert DataSection(sources=[{"files": "a"}, {"files": ["b", "c"]}]).all_files() == ["a", "b", "c"]
