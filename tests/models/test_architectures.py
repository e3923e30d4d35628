"""Other people's models through the shipped recipes; docs/models.md shows the numbers."""

from __future__ import annotations

import pytest
import transformers as hf

from tests.models.architectures import ANSWERS, ARCHITECTURES, PROMPTS, run_through, save_plain
from tutelage.models.folders import resolve_model
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy
from tutelage.text.tokenizer import open_tokenizer

FAST = ("gpt2", "gemma2")
"""The two most unlike; the others are slow only because they are many."""
ROWS = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in ARCHITECTURES]


@pytest.fixture(scope="session")
def llama_reward(tmp_path_factory):
    """A reward model with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("llama-reward")
    tokenizer = open_tokenizer(save_plain(ARCHITECTURES["llama"], folder / "base"))
    ScoredModel.from_policy(folder / "base", seed=0, tokenizer=tokenizer).rescale_(1.0, 0.4).save(folder / "reward", tokenizer)
    return folder / "reward"


@pytest.mark.parametrize("name", ROWS)
def test_sft_reward_and_ppo_leave_folders_that_plain_transformers_opens_with_equal_numbers(name, tmp_path, llama_reward):
    gaps = run_through(name, tmp_path, llama_reward)
    assert gaps.keys() == {"sft", "ppo", "sampler"} | ({"reward"} if ARCHITECTURES[name].scored else set())
    assert all(gap <= 2e-5 for gap in gaps.values()), gaps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2"])
def test_the_results_train_on_in_trl(name, tmp_path, llama_reward):
    import datasets
    import trl

    run_through(name, tmp_path, llama_reward)
    common = {"max_steps": 2, "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "learning_rate": 1e-2, "bf16": False,
              "save_strategy": "no", "logging_steps": 1}
    turns = [([{"role": "user", "content": q}], [{"role": "assistant", "content": a}], [{"role": "assistant", "content": f"{a} now"}])
             for q, a in zip(PROMPTS, ANSWERS, strict=True)]
    rows = {"sft": {"prompt": [t[0] for t in turns], "completion": [t[1] for t in turns]},
            "reward": {"prompt": [t[0] for t in turns], "chosen": [t[2] for t in turns], "rejected": [t[1] for t in turns]}}
    for verb, trainer, settings in (("sft", trl.SFTTrainer, trl.SFTConfig), ("reward", trl.RewardTrainer, trl.RewardConfig)):
        start = resolve_model(tmp_path / verb)
        trainer = trainer(model=str(start), args=settings(output_dir=str(tmp_path / "trl" / verb), model_init_kwargs={"dtype": "float32"},
                                                          **common), train_dataset=datasets.Dataset.from_dict(rows[verb]))
        trainer.train()
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)
        trainer.save_model(str(tmp_path / "back" / verb))           # and back again
    assert ScoredModel.open(tmp_path / "back" / "reward") and open_policy(tmp_path / "back" / "sft")


def test_the_table_has_no_row_that_is_wrong_about_its_head(tmp_path):
    known = hf.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    assert {a.model_type: a.scored for a in ARCHITECTURES.values()} == {a.model_type: a.model_type in known for a in ARCHITECTURES.values()}
