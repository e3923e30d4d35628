"""`tutelage prove`: the shipped PPO reaches the exact optimum, and the command says so, or says that it did not."""

from __future__ import annotations

import json
import tempfile

import numpy as np
import pytest

from tutelage.cli.main import main
from tutelage.proofs import ppo as ppo_proof
from tutelage.proofs import table
from tutelage.proofs.check import prove
from tutelage.proofs.methods import TOLERANCE


@pytest.fixture
def run(capsys):
    """Run the command line; returns (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def two_iterations(monkeypatch):
    """PPO that hardly begins."""
    whole = ppo_proof.settings

    def short(task, run_dir):
        cfg = whole(task, run_dir)
        return cfg.model_copy(update={"algo": cfg.algo.model_copy(update={"num_iterations": 2})})

    monkeypatch.setattr(ppo_proof, "settings", short)


def test_ppo_reaches_the_exact_optimum(run):
    code, out, _ = run("prove", "ppo", "--beta", "0.5", "--seed", "0", "--json")
    found = json.loads(out)
    assert found["total_variation_at_start"] > 0.25                              # far enough away to fail
    assert found["total_variation"] <= TOLERANCE == 0.01
    assert found["proven"] and code == 0
    for row in found["responses"]:
        assert row["trained"] == pytest.approx(row["optimum"], abs=TOLERANCE)


def test_a_policy_that_hardly_trained_is_not_proven(run, two_iterations):
    code, out, _ = run("prove", "ppo")
    assert code == 1
    assert out.splitlines()[-1] == f"NOT proven: total variation > {TOLERANCE}"


def test_json_is_one_object_and_agrees_with_the_text(run, two_iterations):
    found = json.loads(run("prove", "ppo", "--seed", "2", "--json")[1])
    text = run("prove", "ppo", "--seed", "2")[1]
    assert f"total variation to pi*: {found['total_variation']:.5f}" in text
    assert found["kl_optimum_reference"] == pytest.approx(1.0, abs=1e-6)         # scaled to lie 1 nat away
    assert [row["response"] for row in found["responses"]] == [line[:18].strip() for line in text.splitlines()[3:11]]


def test_unscaled_leaves_the_table_alone(run, two_iterations):
    found = json.loads(run("prove", "ppo", "--beta", "0.1", "--unscaled", "--json")[1])
    assert found["reward_scale"] == 1.0 and found["kl_optimum_reference"] > 1.0


def test_a_seed_repeats_to_the_last_bit(two_iterations):
    first, again = prove("ppo", seed=5), prove("ppo", seed=5)
    assert np.array_equal(first.trained, again.trained)
    assert not np.array_equal(first.trained, prove("ppo", seed=6).trained)


def test_nothing_stays_on_disk(two_iterations, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prove("ppo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "words"), [
    (["prove", "pppo"], "did you mean ppo?"), (["prove", "ppo", "--beta", "0"], "--beta 0"), (["prove", "ppo", "--seed", "-1"], "--seed"),
    (["prove", "ppo", "--beta", "inf"], "--beta inf"), (["prove", "ppo", "--seed", "9223372036854775808"], "--seed")])
def test_a_wrong_argument_is_one_line_and_exit_code_2(run, arguments, words):
    code, out, err = run(*arguments)
    assert code == 2 and out == ""
    assert words in err.splitlines()[0] and "Traceback" not in err


def test_the_table_goes_between_its_markers(tmp_path):
    cells = [table.Cell(beta, seed, True, 0.001 * (seed + 1), 0, 40.0) for beta in table.BETAS for seed in (0, 1)]
    cells += [table.Cell(table.UNSCALED_BETA, seed, False, 0.5 * seed, seed, 50.0) for seed in (0, 1)]
    page = tmp_path / "prove.md"
    page.write_text("before\n<!-- table ppo -->\nold\n<!-- end ppo -->\nafter\n")
    table.write_between_markers(page, "ppo", table.markdown(cells))
    text = page.read_text()
    assert text.startswith("before\n<!-- table ppo -->\n| seed |") and text.endswith("<!-- end ppo -->\nafter\n") and "old" not in text
    assert "| 1 | 0.00200 | 0.00200 | 0.00200 | 0.50000 ✗ |" in text
    assert "6 of 6 cells with scaled rewards are within 0.01. Unscaled, 1 of 2 seeds miss a mode" in text


@pytest.mark.slow
@pytest.mark.parametrize("seed", table.SEEDS)
@pytest.mark.parametrize("beta", table.BETAS)
def test_ppo_reaches_the_exact_optimum_in_every_cell(beta, seed):
    assert table.run_cell("ppo", beta, seed, True).total_variation <= TOLERANCE
