"""Which methods can be held to their exact stationary point. Names only; nothing heavy is imported here."""

from __future__ import annotations

from typing import NamedTuple

TOLERANCE = 0.01
"""Total variation to the stationary point that counts as proven; every planted fault in tests/proofs ends beyond it."""


class Method(NamedTuple):
    """`module` holds `stationary_point(task) -> (N,) probabilities` and `train(task, run_dir) -> policy`."""

    summary: str
    module: str


METHODS = {
    "ppo": Method("PPO with the KL in the reward: pi* = pi_ref exp(r / beta) / Z.", "tutelage.proofs.ppo"),
}
