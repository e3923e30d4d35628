"""Splits by prompt."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tutelage.base.errors import DataError
from tutelage.base.records import Comparison, Judgement, Message, Response
from tutelage.base.split import deal_folds, split_key, split_of, split_rows, split_sides, write_keys


def test_spacing_case_form_and_system_turns_do_not_move_a_prompt():
    forms = ["What is tea?", "  what  IS\ntea? ", (Message("user", "What is tea?"),),
             (Message("system", "Be brief."), Message("user", "what is tea?"))]
    for seed in range(30):
        assert len({split_of(form, eval_frac=0.5, seed=seed) for form in forms}) == 1


def test_contexts_of_one_conversation_share_a_side_by_first_turn():
    talk = (Message("assistant", "Welcome!"), Message("user", "a latte"), Message("assistant", "Hot?"), Message("user", "yes"))
    for seed in range(30):
        assert len({split_of(talk[:n], eval_frac=0.5, seed=seed, by="first_turn") for n in (2, 3, 4)}) == 1
    assert len({split_of(talk[:n], eval_frac=0.5, seed=seed) for n in (2, 4) for seed in (0, 1, 2, 3)}) == 2


def test_the_share_held_out_is_the_share_asked_for():
    held = sum(split_of(f"prompt {i}", eval_frac=0.1, seed=0) == "eval" for i in range(5000))
    assert binomtest(held, 5000, 0.1).pvalue > 1e-3
    assert all(split_of(f"{i}", eval_frac=0, seed=0) == "train" and split_of(f"{i}", eval_frac=1, seed=0) == "eval" for i in range(99))


@given(st.text(), st.integers(0, 2**63), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_eval_side_contains_the_smaller(text, seed, a, b):
    low, high = sorted((a, b))
    assert split_of(text, eval_frac=low, seed=seed) == "train" or split_of(text, eval_frac=high, seed=seed) == "eval"


def test_seeds_give_independent_splits():
    both = [(split_of(f"{i}", eval_frac=0.5, seed=1), split_of(f"{i}", eval_frac=0.5, seed=2)) for i in range(4000)]
    assert binomtest(sum(a == b for a, b in both), 4000, 0.5).pvalue > 1e-3


def test_comparisons_and_ratings_of_one_prompt_share_a_side():
    prompts = [(Message("user", f"question {i}"),) for i in range(50)]
    pairs = [Comparison(p, f"good {k}", f"bad {k}") for p in prompts for k in range(3)]
    ratings = [Judgement(p, (Response("x"),), "label", label=True) for p in prompts]
    train, held = split_rows([*pairs, *ratings], eval_frac=0.3, seed=0)
    assert {r.prompt for r in train}.isdisjoint({r.prompt for r in held}) and len(train) + len(held) == 200 and train and held


def test_a_group_key_keeps_its_rows_together():
    rows = [Judgement(f"p{i}", (Response("x"),), "label", label=True, extra={"dialogue": str(i // 5)}) for i in range(100)]
    train, held = split_rows(rows, eval_frac=0.5, seed=0, key=lambda row: row.extra["dialogue"])
    assert {r.extra["dialogue"] for r in train}.isdisjoint({r.extra["dialogue"] for r in held}) and train and held


def test_another_process_with_another_hash_seed_splits_alike():
    code = "from tutelage.base.split import split_of; print(''.join(split_of(str(i), eval_frac=.5, seed=7)[0] for i in range(64)))"
    runs = [subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": s, "PYTHONPATH": ":".join(sys.path)},
                           capture_output=True, text=True, check=True).stdout.strip() for s in ("1", "2")]
    assert runs[0] == runs[1] == "".join(split_of(str(i), eval_frac=0.5, seed=7)[0] for i in range(64))


def test_an_impossible_share_is_refused():
    with pytest.raises(ValueError, match=r"eval_frac=1\.5"):
        split_of("x", eval_frac=1.5, seed=0)


def test_a_text_and_its_opening_share_a_side_by_opening():
    texts = [f"the {i} old  films\nwere always better than the new {i}" for i in range(40)]
    for text in texts:
        opening = " ".join(text.split()[:4])
        assert split_of(text, eval_frac=0.5, seed=3, by="opening") == split_of(opening, eval_frac=0.5, seed=3, by="opening")
    assert len({split_of(text, eval_frac=0.5, seed=3, by="opening") for text in texts}) == 2


def test_the_prompts_of_a_held_out_file_and_no_others_are_held_out(tmp_path):
    file = tmp_path / "held_out.txt"
    write_keys(file, [split_key("Is tea good?"), split_key("b")])
    asked = [(Message("system", "Be brief."), Message("user", "is  TEA good?")), "B", "Is tea bad?", "Is tea good"]
    assert split_sides(asked, eval_frac=0.9, seed=0, held_out=str(file), keep_near=True) == ["eval", "eval", "train", "train"]
    assert split_sides(asked, eval_frac=0.9, seed=0, held_out=str(file)) == ["eval", "eval", "train", None]     # nearly held out
    (tmp_path / "none.txt").write_text("\n \n")
    for name, says in (("none.txt", "names no held-out prompt"), ("gone.txt", "cannot read")):
        with pytest.raises(DataError, match=says):
            split_sides(["a"], eval_frac=0.1, seed=0, held_out=str(tmp_path / name))


def test_what_nearly_repeats_a_named_prompt_is_left_out_of_files_without_that_prompt(tmp_path):
    file = tmp_path / "held_out.txt"
    write_keys(file, [split_key("Should schools ban mobile phones in class?")])
    asked = ["So should schools ban mobile phones in class?", "How do I brew tea?"]
    assert split_sides(asked, eval_frac=0, seed=0, held_out=str(file)) == [None, "train"]
    assert split_sides(asked, eval_frac=0, seed=0, held_out=str(file), keep_near=True) == ["train", "train"]


@given(st.lists(st.integers(1, 30), min_size=3, max_size=20), st.integers(2, 3), st.integers(0, 5))
def test_folds_keep_a_key_whole_and_differ_by_no_more_than_the_largest_key(sizes, folds, seed):
    keys = [f"key {i}" for i, size in enumerate(sizes) for _ in range(size)]
    fold_of = deal_folds(keys, folds, seed=seed)
    held = [sum(fold_of[key] == fold for key in keys) for fold in range(folds)]
    assert sum(held) == len(keys) and min(held) > 0 and max(held) - min(held) <= max(sizes)
    assert fold_of == deal_folds(keys[::-1], folds, seed=seed)


def test_fewer_prompts_than_folds_are_refused():
    with pytest.raises(DataError, match="2 distinct prompts cannot be dealt into 3 folds"):
        deal_folds(["a", "b", "a"], 3, seed=0)
