"""The engine protocol (token ids in and out), the in-process decoder, and Rollout batches."""

from tutelage.rollout.batch import Rollout
from tutelage.rollout.engine import Engine, InProcessEngine, open_engine
from tutelage.rollout.live import Ask, Drawn, LiveBatch
from tutelage.rollout.sampling import Sampling

__all__ = ["Ask", "Drawn", "Engine", "InProcessEngine", "LiveBatch", "Rollout", "Sampling", "open_engine"]
