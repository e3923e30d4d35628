"""What Retrain does in `tutelage studio --demo`."""

from __future__ import annotations

from tutelage.base.config import load_config
from tutelage.cli.studio_demo import DEMO_TRAIN
from tutelage.demo.tasks import COUNTS
from tutelage.recipes.reward_model import RewardConfig


def test_the_demos_retraining_takes_enough_steps_and_holds_out_enough_prompts():
    """Its panel gives 560 judgements; fewer than ten held-out prompts say nothing, and 15 steps teach nothing."""
    cfg, *_ = load_config(RewardConfig, None, ["model.policy=x", "data.files=[x]", *DEMO_TRAIN])
    assert cfg.train.steps(round(560 * (1 - cfg.data.eval_frac)), cfg.train.batch_size) >= 100
    assert cfg.data.eval_frac * sum(COUNTS[kind] for kind in ("comparison", "ranking")) >= 30
