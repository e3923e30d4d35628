"""Flip one sign in each formula of a copy of algos/ and demand that the test which guards it turns red.

A test that stays green with its formula's sign flipped is a defect. Each row of the table names the file, the exact fragment of source,
its flipped form and the test that must notice. A fragment that is not in the source exactly once is a failure too: bring the row along.
`pytest -s` prints the table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

if not hasattr(os, "fork"):
    pytest.skip("three dozen copies each need a torch of their own: seconds by fork, which Windows has not", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]


class Flip(NamedTuple):
    formula: str
    file: str
    source: str
    flipped: str
    test: str


GAE_TEST = "test_advantages.py::test_gae_matches_the_double_sum"
FLIPS = [
    Flip("log p: gradient of a log-prob", "logprobs.py", "d = -g * (flat[at]", "d = g * (flat[at]",
         "test_logprobs.py::test_the_gradient_of_a_logprob_is_onehot_minus_softmax_over_temperature"),
    Flip("log p: shift by one", "logprobs.py", "torch.roll(tokens, -1, dims=1)", "torch.roll(tokens, 1, dims=1)",
         "test_logprobs.py::test_column_t_belongs_to_token_t_and_column_0_is_zero"),
    Flip("entropy: gradient", "logprobs.py", "d = -(torch.xlogy(p, p) + p * flat_entropy", "d = -(torch.xlogy(p, p) - p * flat_entropy",
         "test_logprobs.py::test_gradients_pass_finite_differences"),
    Flip("k1", "kl.py", "    return logprobs - ref_logprobs", "    return ref_logprobs - logprobs",
         "test_kl_estimators.py::test_fact_31_k1_and_k3_are_unbiased_by_enumeration"),
    Flip("k2", "kl.py", "(logprobs - ref_logprobs).square()", "(logprobs + ref_logprobs).square()",
         "test_kl_estimators.py::test_fact_31_as_a_loss_only_k2_has_the_gradient_of_the_kl"),
    Flip("k3", "kl.py", "torch.expm1(-d) + d", "torch.expm1(d) - d",
         "test_kl_estimators.py::test_fact_31_k1_and_k3_are_unbiased_by_enumeration"),
    Flip("adaptive KL coefficient", "kl.py", "kl_coef * (1.0 + error", "kl_coef * (1.0 - error",
         "test_kl_estimators.py::test_fact_02_the_adaptive_coefficient_settles_where_the_kl_meets_its_target"),
    Flip("KL penalty in the reward", "advantages.py", "-kl_coef * k1(", "kl_coef * k1(",
         "test_advantages.py::test_fact_13_undiscounted_rewards_sum_to_the_score_minus_the_kl_of_the_response"),
    Flip("GAE: delta", "advantages.py", "next_value - values[:, t]", "next_value + values[:, t]", GAE_TEST),
    Flip("GAE: bootstrap", "advantages.py", "rewards[:, t] + gamma * next_value", "rewards[:, t] - gamma * next_value",
         "test_advantages.py::test_a_truncated_row_is_bootstrapped_with_the_value_after_its_last_token"),
    Flip("GAE: accumulator", "advantages.py", "delta + gamma * gae_lambda * accumulated", "delta - gamma * gae_lambda * accumulated",
         GAE_TEST),
    Flip("GAE: returns", "advantages.py", "return advantages, advantages + values", "return advantages, advantages - values", GAE_TEST),
    Flip("leave-one-out baseline", "advantages.py", "(groups - others)", "(groups + others)",
         "test_advantages.py::test_leave_one_out_subtracts_the_mean_of_the_others"),
    Flip("group normalisation", "advantages.py", "groups - groups.mean(1, keepdim=True)", "groups + groups.mean(1, keepdim=True)",
         "test_advantages.py::test_group_normalized_is_the_z_score_of_each_group"),
    Flip("whitening: mean", "advantages.py", "torch.where(mask, x, 0.0) - mean", "torch.where(mask, x, 0.0) + mean",
         "test_advantages.py::test_fact_14_whitening_divides_by_the_biased_variance_plus_1e_8"),
    Flip("explained variance", "advantages.py", "1.0 - masked_var", "1.0 + masked_var",
         "test_advantages.py::test_explained_variance_equals_sklearn_and_is_one_for_a_perfect_critic"),
    Flip("masked variance", "masked.py", "torch.where(mask, x, 0.0) - (mean", "torch.where(mask, x, 0.0) + (mean",
         "test_masked.py::test_sum_mean_and_variance_equal_numpy_on_the_selection"),
    Flip("PPO: ratio", "losses.py", "logprobs - old_logprobs, 0.0)", "old_logprobs - logprobs, 0.0)",
         "test_policy_and_value_losses.py::test_at_ratio_one_the_gradient_is_that_of_reinforce"),
    Flip("PPO: unclipped surrogate", "losses.py", "unclipped = -advantages", "unclipped = advantages",
         "test_policy_and_value_losses.py::test_the_policy_loss_matches_a_loop_over_tokens"),
    Flip("PPO: clipped surrogate", "losses.py", "clipped = -advantages * ratio.clamp", "clipped = advantages * ratio.clamp",
         "test_policy_and_value_losses.py::test_the_clip_removes_the_gradient_only_of_what_has_moved_far_enough"),
    Flip("PPO: pessimistic side of the clip", "losses.py", "loss = token_mean(torch.maximum", "loss = token_mean(torch.minimum",
         "test_policy_and_value_losses.py::test_the_clip_removes_the_gradient_only_of_what_has_moved_far_enough"),
    Flip("PPO: approx_kl", "losses.py", "k3(torch.zeros_like(log_ratio), log_ratio)", "k3(log_ratio, torch.zeros_like(log_ratio))",
         "test_policy_and_value_losses.py::test_approx_kl_over_samples_of_the_old_policy_is_kl_old_new"),
    Flip("value loss: clip around the old value", "losses.py", "torch.clamp(values, old_values - cliprange_value, old_values",
         "torch.clamp(values, old_values - cliprange_value, -old_values",
         "test_policy_and_value_losses.py::test_the_value_loss_matches_a_loop_over_tokens"),
    Flip("value loss: error", "losses.py", "(values - returns).square()", "(values + returns).square()",
         "test_policy_and_value_losses.py::test_an_infinite_value_clip_leaves_half_the_mean_squared_error"),
    Flip("value loss: pessimistic side", "losses.py", "0.5 * token_mean(torch.maximum", "0.5 * token_mean(torch.minimum",
         "test_policy_and_value_losses.py::test_fact_15_the_value_is_clipped_around_the_old_value"),
    Flip("language-model loss", "losses.py", "return -token_mean(logprobs", "return token_mean(logprobs",
         "test_policy_and_value_losses.py::test_the_language_model_loss_is_cross_entropy_over_the_mask"),
    Flip("Bradley-Terry: difference", "losses.py", "chosen_scores - rejected_scores - margin", "rejected_scores - chosen_scores - margin",
         "test_reward_losses.py::test_bradley_terry_of_plain_pairs_is_the_mean_of_log_one_plus_exp_of_minus_the_difference"),
    Flip("Bradley-Terry: margin", "losses.py", "chosen_scores - rejected_scores - margin", "chosen_scores - rejected_scores + margin",
         "test_reward_losses.py::test_the_minimum_of_bradley_terry_is_at_the_margin_plus_the_log_odds_of_the_target"),
    Flip("logistic loss: soft side", "losses.py", "F.logsigmoid(-logit)", "F.logsigmoid(logit)",
         "test_reward_losses.py::test_binary_ratings_equal_sklearn"),
    Flip("ranking: who is better", "losses.py", "torch.sign(ranks[:, j] - ranks[:, i])", "torch.sign(ranks[:, i] - ranks[:, j])",
         "test_reward_losses.py::test_two_answers_in_a_ranking_are_a_bradley_terry_pair"),
    Flip("ranking: Davidson", "losses.py", "tie, outcome * difference / 2)", "tie, -outcome * difference / 2)",
         "test_reward_losses.py::test_the_ranking_loss_matches_a_loop_over_all_pairs"),
    Flip("ranking: margin", "losses.py", "difference = difference - outcome * asked", "difference = difference + outcome * asked",
         "test_reward_losses.py::test_a_margin_is_what_a_decided_pair_asks_for_on_top_whoever_stands_first"),
    Flip("ratings: step from above", "losses.py", "F.logsigmoid(upper - scores)", "F.logsigmoid(scores - upper)",
         "test_reward_losses.py::test_a_rating_is_likely_as_the_logistic_distribution_between_its_thresholds"),
    Flip("ratings: step from below", "losses.py", "F.logsigmoid(scores - lower)", "F.logsigmoid(lower - scores)",
         "test_reward_losses.py::test_the_probabilities_of_all_ratings_sum_to_one"),
    Flip("ratings: width of a step", "losses.py", "torch.log(-torch.expm1(-width))", "-torch.log(-torch.expm1(-width))",
         "test_reward_losses.py::test_a_rating_is_likely_as_the_logistic_distribution_between_its_thresholds"),
    Flip("ratings: thresholds grow", "losses.py", "first + log_gaps.exp()", "first - log_gaps.exp()",
         "test_reward_losses.py::test_a_rating_is_likely_as_the_logistic_distribution_between_its_thresholds"),
    Flip("running mean", "shaping.py", "self.mean + shift", "self.mean - shift",
         "test_shaping.py::test_running_moments_equal_those_of_everything_at_once"),
    Flip("rescaling: shift", "shaping.py", "mean - gain * seen.mean", "mean + gain * seen.mean",
         "test_shaping.py::test_fact_09_gain_and_shift_give_the_scores_the_wanted_mean_and_std"),
    Flip("missing-EOS penalty", "shaping.py", "scores - penalty", "scores + penalty",
         "test_shaping.py::test_fact_12_a_response_that_does_not_stop_is_punished"),
]


RUNNER = """
import json, os, sys
# Imported once and then forked, or every flip would pay seconds for them (torch.distributed.tensor is what assert_close imports).
import hypothesis, numpy, pytest, scipy.optimize, scipy.special, scipy.stats, sklearn.metrics, torch, torch.distributed.tensor
assert "tutelage" not in sys.modules
for room, tests in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        os.chdir(room)
        sys.path.insert(0, os.path.join(room, "src"))
        os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT), 1)
        os._exit(pytest.main(["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--rootdir", room, *tests]))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    open(os.path.join(room, "exit_code.txt"), "w").write(str(code))
"""


def test_a_flipped_sign_turns_its_test_red_and_the_unflipped_copy_is_green(tmp_path: Path) -> None:
    whole = copy_of_algos(tmp_path / "unflipped")
    all_tests = sorted({f"tests/{flip.test}" for flip in FLIPS} | {"tests/test_room.py"})
    jobs = [(flipped_copy(whole, tmp_path / f"{n}", flip), [f"tests/{flip.test}"]) for n, flip in enumerate(FLIPS)]
    run_all([(whole, all_tests), *jobs])
    assert outcome(whole)[0] == 0, outcome(whole)[1]
    green = []
    for flip, (room, _) in zip(FLIPS, jobs, strict=True):
        code, output = outcome(room)
        assert code in (0, 1), f"{flip.formula}: pytest could not run (exit code {code})\n{output}"
        print(f"{'red' if code else 'GREEN':6}{flip.formula:40}{flip.file:15}{flip.source}  ->  {flip.flipped}")
        if code == 0:
            green.append(flip.formula)
    assert not green, f"no test noticed the flipped sign in: {', '.join(green)}"


def copy_of_algos(room: Path) -> Path:
    """algos and its tests apart from the checkout, so that neither an installed package nor the project's pytest options stand in.

    It needs no other room of the house (it imports torch only), so no other is copied.
    """
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "tutelage" / "algos", room / "src" / "tutelage" / "algos", ignore=ignore)
    (room / "src" / "tutelage" / "__init__.py").touch()              # the package's own opens the Python door, which is other rooms
    shutil.copytree(ROOT / "tests" / "algos", room / "tests", ignore=ignore)
    (room / "pytest.ini").write_text("[pytest]\n")
    (room / "tests" / "test_room.py").write_text("from pathlib import Path\n\nimport tutelage.algos\n\n\n"
                                                 "def test_the_copy_is_imported():\n"
                                                 "    assert Path(tutelage.algos.__file__).is_relative_to(Path.cwd())\n")
    return room


def flipped_copy(whole: Path, room: Path, flip: Flip) -> Path:
    """A copy with one fragment flipped. Fails unless the source holds the fragment exactly once."""
    shutil.copytree(whole, room)
    file = room / "src" / "tutelage" / "algos" / flip.file
    text = file.read_text(encoding="utf-8")
    found = text.count(flip.source)
    assert found == 1, f"{flip.formula}: {flip.source!r} occurs {found} times in algos/{flip.file}; bring this row of FLIPS along"
    file.write_text(text.replace(flip.source, flip.flipped), encoding="utf-8")
    return room


def run_all(jobs: list[tuple[Path, list[str]]]) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    env |= {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    arguments = json.dumps([(str(room), tests) for room, tests in jobs])
    done = subprocess.run([sys.executable, "-c", RUNNER, arguments], env=env, cwd=jobs[0][0], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def outcome(room: Path) -> tuple[int, str]:
    return int((room / "exit_code.txt").read_text()), (room / "output.txt").read_text()
