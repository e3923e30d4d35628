"""Open, create and save Hugging Face models; reward and value heads."""

import os

# oneDNN keeps a compiled kernel for each of the last 1024 shapes. Rows of all lengths make thousands that seldom come again: 100 MB and
# more for nothing. Read at its first use, hence here.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")

from tutelage.models.folders import resolve_model, turn_off_dropout
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, open_policy, save_policy, token_logprobs, token_logprobs_and_entropy
from tutelage.models.presets import PRESETS, new_policy

__all__ = ["PRESETS", "ScoredModel", "context_length", "new_policy", "open_policy", "resolve_model", "save_policy", "token_logprobs",
           "token_logprobs_and_entropy", "turn_off_dropout"]
