"""The report: valid and safe whatever comes in, strict JSON, and a headline that says what the numbers say."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evals.example import example_report
from tutelage.evals import headline as hl
from tutelage.evals import sections
from tutelage.evals.curves import CATALOG, panels
from tutelage.evals.page import Page
from tutelage.evals.report import complete, render, strict, write_picture, write_report
from tutelage.evals.reward_report import accuracy_by

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\x00\u202e\ud800</style></title>&amp;'


class Checker(HTMLParser):
    """Every tag closed in order, ids unique, no script, no handler, no address outside the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "iframe", "object", "embed", "link", "base")
        for name, value in attrs:
            assert not name.startswith("on") and name != "src"
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href"):
                self.links.append(value)
            if name == "aria-labelledby":
                self.labels += value.split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert all(link.startswith("#") and link[1:] in checker.ids for link in checker.links)
    assert set(checker.labels) <= set(checker.ids)
    assert not re.search(r"(https?:)?//[a-z]", page.replace("http://www.w3.org/2000/svg", ""), re.I)
    assert not re.search(r"url\(|@import", page)
    return checker


WHOLE = example_report()


@pytest.fixture
def example():
    return WHOLE


def test_the_full_page_is_well_formed_self_contained_and_has_every_section(example, tmp_path: Path):
    index = write_report(tmp_path / "report", example)
    page = index.read_text(encoding="utf-8")
    checker = check(page)
    assert {"models", "samples", "frontier", "reward", "curves", "made"} <= set(checker.ids)
    assert page.count("<svg") == page.count("<desc") == page.count("<figure") >= 20
    assert page.count("<summary>Numbers</summary>") == page.count("<figure")
    assert "not run yet" not in page and "undefined" not in page
    assert len(page) < 1_500_000


def test_report_json_is_strict_and_has_the_published_schema(example, tmp_path: Path):
    write_report(tmp_path, example)

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(read) >= {"seconds", "models", "reward_model"}
    for row in read["models"].values():
        assert {"path", "gold", "proxy", "kl", "length", "win_rate_vs_sft"} <= set(row)
        assert set(row["win_rate_vs_sft"]) >= {"mean", "low", "high"} and isinstance(row["gold"], float)
    panel = read["reward_model"]
    assert set(panel["accuracy"]) == {"mean", "low", "high", "n"} and set(panel["baselines"]) == {"length", "bag_of_words"}
    assert all(isinstance(panel[key], float) for key in ("accuracy_vs_gold", "bayes_ceiling"))
    assert complete(read) == read                                   # reading it back changes nothing


def test_an_estimate_given_for_a_number_is_split_into_number_and_interval():
    clean = complete({"models": {"sft": {"gold": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}}},
                      "reward_model": {"accuracy_vs_gold": {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 9}}})
    assert clean["models"]["sft"]["gold"] == 0.5 and clean["models"]["sft"]["gold_ci"]["low"] == 0.4
    assert clean["reward_model"]["accuracy_vs_gold"] == 0.9 and clean["reward_model"]["accuracy_vs_gold_ci"]["n"] == 9


def test_what_is_not_finite_is_null_in_json_and_undefined_on_the_page(tmp_path: Path):
    write_report(tmp_path, {"models": {"sft": {"gold": 0.5, "win_rate_vs_sft": {"mean": math.nan, "low": -math.inf, "high": np.nan}},
                                       "ppo": {"gold": float("nan"), "kl": math.inf}},
                            "curves": {"ppo": [{"step": 0, "objective/kl": 1.0}, {"step": 1, "objective/kl": math.nan}]}})
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read["models"]["ppo"] == {"gold": None, "kl": None} and read["models"]["sft"]["win_rate_vs_sft"]["mean"] is None
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    check(page)
    assert "undefined" in page and not re.search(r"\b(nan|inf|NaN|None)\b", page)


def test_numpy_values_become_plain_json():
    got = strict({"a": np.float32(0.5), "b": np.int64(3), "c": np.array([1.0, np.nan]), "d": np.bool_(True), 1: (Path("x"), {2})})
    assert json.loads(json.dumps(got, allow_nan=False)) == {"a": 0.5, "b": 3, "c": [1.0, None], "d": True, "1": ["x", [2]]}


def test_hostile_text_is_shown_and_never_run():
    report = {"title": HOSTILE, "models": {HOSTILE: {"gold": 0.1, "path": HOSTILE}, "sft": {"gold": 0.4}}, "stages": [HOSTILE],
              "seconds": {HOSTILE + "2": 1.0}, "curves": {HOSTILE: [{"step": 0, HOSTILE: 1.0}, {"step": 1, HOSTILE: 2.0}]},
              "samples": [{"prompt": HOSTILE, "kind": HOSTILE, "answers": {HOSTILE: HOSTILE}, "gold": {HOSTILE: 0.5}},
                          {"prompt": [{"role": HOSTILE, "content": HOSTILE}], "answers": {"sft": HOSTILE}}],
              "distributions": {HOSTILE: {HOSTILE: [0.1, 0.2]}},
              "provenance": {HOSTILE: HOSTILE, "config": "a\n" + HOSTILE, "x": {HOSTILE: 1}}}
    page = render(complete(report))
    checker = check(page)                                           # which fails on any script, img, handler or unclosed tag
    shown = "".join(checker.text)
    assert "<script>alert(1)</script>" in shown and "␀" in shown
    page.encode("utf-8")


PARTS = ["seconds", "stages", "models", "reward_model", "frontier", "curves", "samples", "distributions", "provenance"]


@settings(max_examples=25)
@given(st.sets(st.sampled_from(PARTS)), st.sets(st.sampled_from(["base", "sft", "best_of_n", "ppo"])))
def test_any_part_may_be_missing(keep, models):
    partial = {key: WHOLE[key] for key in keep} | {"title": "Partial"}
    if "models" in keep:
        partial["models"] = {name: WHOLE["models"][name] for name in models}
    partial["curves"] = {stage: rows[:3] for stage, rows in partial.get("curves", {}).items()}
    page = render(complete(partial))
    check(page)
    # The reward panel also draws from the frontier: its accuracy on fresh answers.
    sources = [("models",), ("samples",), ("frontier",), ("reward_model", "frontier"), ("curves",), ("seconds", "stages", "provenance")]
    assert page.count('class="pending"') == sum(1 for parts in sources if not any(partial.get(part) for part in parts))
    assert ("This report is partial" in page) == ("stages" in keep and "seconds" not in keep)


@pytest.mark.parametrize("broken", [{}, {"models": None, "seconds": None, "curves": None}, {"models": {"ppo": {}, "sft": {}}},
                                    {"reward_model": {"accuracy": None, "baselines": None, "calibration": None}},
                                    {"frontier": [{"step": 1}, {"kl": None, "gold": 1.0}]}, {"samples": [{}]},
                                    {"curves": {"ppo": []}}, {"curves": {"ppo": [{"step": 1, "note": "text", "flag": True}]}}])
def test_an_interrupted_run_still_gets_a_valid_page(broken, tmp_path: Path):
    check(write_report(tmp_path, broken).read_text(encoding="utf-8"))


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, example):
    write_report(tmp_path, {"title": "old"})
    before = (tmp_path / "report.json").read_bytes()
    with pytest.raises(TypeError):
        write_report(tmp_path, None)
    assert (tmp_path / "report.json").read_bytes() == before


# What the headline says.

def models(ppo, sft=0.6, half=0.02, **extra):
    def row(mean):
        return {"gold": mean, "gold_ci": {"mean": mean, "low": mean - half, "high": mean + half, "n": 100}}
    return complete({"models": {"sft": row(sft), "ppo": row(ppo) | {"kl": 9.0} | extra}})


def test_headline_gives_the_share_of_the_gap_closed():
    assert hl.headline(models(0.8)) == "PPO closes 50 % of the gap that SFT leaves: gold rises from 0.600 to 0.800 for 9.0 nats of KL."


def test_headline_says_plainly_when_ppo_made_it_worse():
    assert "made the answers worse: gold fell from 0.600 to 0.400" in hl.headline(models(0.4))
    assert not any("closed" in tile.label for tile in hl.tiles(models(0.4)))


def test_headline_does_not_claim_what_the_intervals_do_not_carry():
    assert "cannot be told apart from SFT" in hl.headline(models(0.61))
    assert "chance" in hl.headline(complete({"models": {"sft": {"gold": 0.6}, "ppo": {"gold": 0.9}}}))


def test_headline_prefers_the_paired_difference_over_two_separate_intervals():
    paired = models(0.61, gold_vs_sft={"mean": 0.01, "low": 0.005, "high": 0.015, "n": 100})
    assert "closes 3 % of the gap" in hl.headline(paired)


def test_headline_without_gold_does_not_pretend_to_know_what_people_think():
    def row(mean):
        return {"proxy": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 50}}
    said = hl.headline(complete({"models": {"sft": row(0.0), "ppo": row(1.5)}}))
    assert "reward model's score" in said and "whether people agree is not known here" in said


def test_headline_of_an_unfinished_run():
    assert hl.headline(complete({})) == "Nothing has run yet."
    assert hl.headline(complete({"seconds": {"pretrain": 81}})) == "Nothing is measured yet; pretrain took 1 min 21 s."
    assert "PPO has not been measured yet" in hl.headline(complete({"models": {"sft": {"gold": 0.6}, "base": {"gold": 0.2}}}))


def test_a_passed_peak_is_the_first_finding_and_marked_in_the_chart():
    def point(step, gold):
        return {"step": step, "kl": step / 10, "gold": gold, "gold_ci": {"mean": gold, "low": gold - 0.03, "high": gold + 0.03}}
    report = models(0.7) | {"frontier": [point(10, 0.6), point(20, 0.85), point(40, 0.5)]}
    assert hl.findings(report)[0].startswith("The peak is passed: gold was best at step 20")
    assert "peak, passed: 0.850" in render(report)
    report["frontier"].pop()
    assert "peak, passed" not in render(report)


def test_a_reward_model_no_better_than_word_counts_is_called_out():
    panel = {"accuracy": {"mean": 0.69, "low": 0.66, "high": 0.72, "n": 900}, "baselines": {"bag_of_words": 0.68}}
    assert "does not beat counting words" in " ".join(hl.findings(complete({"reward_model": panel})))
    panel["accuracy"]["low"] = 0.685
    assert "does not beat counting words" not in " ".join(hl.findings(complete({"reward_model": panel})))
    panel["above_bag_of_words"] = {"mean": 0.01, "low": -0.02, "high": 0.04, "n": 900}         # the paired difference knows better
    assert "does not beat counting words" in " ".join(hl.findings(complete({"reward_model": panel})))
    ratings = {"labels": {"auc": {"mean": 0.8, "low": 0.7, "high": 0.9, "n": 99}, "baselines": {"bag_of_words": 0.6},
                          "above_bag_of_words": {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 99}}}
    told = " ".join(hl.findings(complete({"reward_model": ratings})))
    assert "counting words reaches 0.600 (difference +0.200 [0.100, 0.300])." in told


def test_the_picture_is_written_once_something_is_measured(tmp_path: Path, example):
    assert not write_picture(tmp_path / "a.svg", {}) and not (tmp_path / "a.svg").exists()
    assert write_picture(tmp_path / "a.svg", example) and "What people would really think" in (tmp_path / "a.svg").read_text()


# Curves.

def test_train_and_held_out_share_a_chart_and_unknown_metrics_are_folded_away():
    rows = [{"step": 0, "train/loss": 2.0, "eval/loss": 2.1, "train/tokens": 5}, {"step": 1, "train/loss": 1.5, "note": "x", "audit": True}]
    main, rest = panels(rows)
    assert [p.key for p in main] == ["loss"] and set(main[0].lines) == {"train", "eval"}
    assert [p.key for p in rest] == ["tokens"]
    assert main[0].lines["train"] == ([0.0, 1.0], [2.0, 1.5])


def test_panels_come_in_the_catalogue_order_and_lines_without_numbers_are_dropped():
    main, rest = panels([{"step": 0, "policy/clipfrac": 0.1, "objective/score": 1.0, "objective/kl": None, "dead": math.nan}])
    assert [p.key for p in main] == [k for k in CATALOG if k in ("objective/score", "policy/clipfrac")] and rest == []


def test_bins_of_accuracy_show_how_many_pairs_they_hold_not_how_many_prompts():
    bins = accuracy_by([1.0] * 4, [1.0, 1.0, -1.0, 1.0], prompts=["a", "a", "a", "b"])
    shown = sections.reward_section(Page(), complete({"reward_model": {"by_margin": bins}}))
    assert "0.750 (4)" in shown and "(2)" not in shown
