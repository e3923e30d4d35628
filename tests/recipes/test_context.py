import pytest

from tests.small import CONTEXT, ppo_config, reward_config, sft_config
from tutelage.base.errors import ConfigError
from tutelage.recipes.ppo import train_ppo
from tutelage.recipes.reward_model import train_reward_model
from tutelage.recipes.sft import train_sft


@pytest.mark.parametrize(("train", "config_of", "section"), [
    (train_sft, sft_config, "model"), (train_reward_model, reward_config, "model"), (train_ppo, ppo_config, "ptx")])
def test_rows_longer_than_the_models_context_cannot_be_asked_for(small, tmp_path, train, config_of, section):
    # A model of learned positions stopped with an index error; one of rotary positions trained on places it has never seen.
    over = {"model": {}, "ptx": {"files": [str(small.corpus)], "coef": 1.0}}[section] | {"context_tokens": CONTEXT + 1}
    with pytest.raises(ConfigError, match=rf"{section}.context_tokens={CONTEXT + 1}, but .* reads {CONTEXT}"):
        train(config_of(small, tmp_path / "run", {section: over}))
