"""Run a shipped recipe on the enumerable task and measure how far it ends from the stationary point of its objective."""

from __future__ import annotations

import importlib
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.proofs.methods import METHODS, TOLERANCE
from tutelage.proofs.solver import Array, kl_divergence, total_variation
from tutelage.proofs.task import VOCABULARY, Task, make_task, response_logprobs
from tutelage.train.run import Interrupted

MODE = 0.05
"""A response this likely at the stationary point is a mode; the policy misses it when it gives it less than a tenth of that."""


@dataclass(frozen=True)
class Proof:
    """Where a method ended. reference, optimum, trained: (N,) probabilities of task.responses."""

    method: str
    task: Task
    reference: Array
    optimum: Array
    trained: Array
    seconds: float

    @property
    def total_variation(self) -> float:
        return total_variation(self.trained, self.optimum)

    @property
    def proven(self) -> bool:
        return self.total_variation <= TOLERANCE

    @property
    def missed_modes(self) -> int:
        """Modes of the optimum that the trained policy all but never gives."""
        return int(((self.optimum >= MODE) & (self.trained < self.optimum / 10)).sum())

    def summary(self) -> dict[str, Any]:
        """What --json prints beside the responses."""
        return {
            "method": self.method, "beta": self.task.beta, "seed": self.task.seed, "reward_scale": self.task.scale,
            "kl_optimum_reference": kl_divergence(self.optimum, self.reference),
            "kl_trained_reference": kl_divergence(self.trained, self.reference),
            "kl_trained_optimum": kl_divergence(self.trained, self.optimum),
            "total_variation_at_start": total_variation(self.reference, self.optimum), "total_variation": self.total_variation,
            "tolerance": TOLERANCE, "missed_modes": self.missed_modes, "seconds": round(self.seconds, 1), "proven": self.proven}

    def likeliest(self, count: int = 8) -> list[ResponseRow]:
        """The responses that any of the three distributions holds likeliest, by pi*."""
        rank = np.maximum(np.maximum(self.reference, self.trained), self.optimum)
        chosen = sorted(np.argsort(-rank, kind="stable")[:count], key=lambda i: -self.optimum[i])
        columns = (self.task.rewards, self.reference, self.optimum, self.trained)
        return [ResponseRow(" ".join(VOCABULARY[t] for t in self.task.responses[i]), *(float(x[i]) for x in columns)) for i in chosen]


@dataclass(frozen=True)
class ResponseRow:
    """One response of the printed table."""

    response: str
    reward: float
    reference: float
    optimum: float
    trained: float


def prove(method: str, *, beta: float = 0.5, seed: int = 0, scaled: bool = True) -> Proof:
    """Train from the reference by sampling, then list every response. The run directory is temporary. About a minute."""
    module = importlib.import_module(METHODS[method].module)
    task = make_task(beta, seed, scaled=scaled)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tutelage-prove-") as folder:
        try:
            policy = module.train(task, Path(folder) / "run")
        except Interrupted as error:
            error.hint = "a proof leaves nothing behind to resume; start it again"
            raise
    seconds = time.perf_counter() - started
    trained = np.exp(response_logprobs(policy, task.responses))
    return Proof(method, task, np.exp(task.ref_logprobs), module.stationary_point(task), trained, seconds)


def as_text(proof: Proof) -> str:
    """What a person reads."""
    task, facts = proof.task, proof.summary()
    lines = [f"{proof.method}, beta {task.beta:g}, seed {task.seed}: {len(task.responses)} responses, "
             f"rewards N(0, 1) times {task.scale:.3f}, KL(pi* || pi_ref) {facts['kl_optimum_reference']:.3f} nats", "",
             f"{'response':<18}{'reward':>8}{'pi_ref':>10}{'pi*':>10}{'trained':>10}"]
    for row in proof.likeliest():
        lines.append(f"{row.response:<18}{row.reward:>8.3f}{row.reference:>10.5f}{row.optimum:>10.5f}{row.trained:>10.5f}")
    lines += ["", f"total variation to pi*: {facts['total_variation']:.5f} (at the start {facts['total_variation_at_start']:.2f})",
              f"KL(trained || pi*): {facts['kl_trained_optimum']:.2g} nats", f"seconds: {facts['seconds']:.1f}"]
    if proof.missed_modes:
        lines.append(f"missed: {proof.missed_modes} of the responses with pi* >= {MODE} got less than a tenth of it")
    verdict, sign = ("proven", "<=") if proof.proven else ("NOT proven", ">")
    return "\n".join([*lines, f"{verdict}: total variation {sign} {TOLERANCE}"])


def as_json(proof: Proof) -> dict[str, Any]:
    """One object; every number of the text and a little more."""
    return proof.summary() | {"responses": [asdict(row) for row in proof.likeliest()]}
