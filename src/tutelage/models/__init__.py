"""Open, create and save Hugging Face models; reward and value heads."""

from tutelage.models.folders import resolve_model, turn_off_dropout
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, open_policy, save_policy, token_logprobs, token_logprobs_and_entropy
from tutelage.models.presets import PRESETS, new_policy

__all__ = ["PRESETS", "ScoredModel", "context_length", "new_policy", "open_policy", "resolve_model", "save_policy", "token_logprobs",
           "token_logprobs_and_entropy", "turn_off_dropout"]
