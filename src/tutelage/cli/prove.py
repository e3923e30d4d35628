"""`tutelage prove METHOD`: the shipped code against the exact optimum of a task small enough to list every response."""

from __future__ import annotations

import click

from tutelage.base.config import MAX_SEED
from tutelage.base.errors import ConfigError, did_you_mean
from tutelage.base.log import setup_logging
from tutelage.proofs.methods import METHODS

from .output import only_json_on_stdout, print_result


@click.command(epilog="\b\n" + "\n".join(f"{name}: {method.summary}" for name, method in METHODS.items()))
@click.argument("method", metavar=f"[{'|'.join(METHODS)}]")
@click.option("--beta", type=float, default=0.5, show_default=True, help="Reward units per nat of KL to the reference.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True,
              help="Draws the rewards, the reference and every sample.")
@click.option("--unscaled", is_flag=True, help="Leave the rewards N(0, 1) even where the optimum is then more than 1 nat away.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
def prove(method: str, beta: float, seed: int, unscaled: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Train METHOD's shipped recipe on a task with 85 possible responses and compare what it ends at with the exact answer.

    Exit code 1 when they differ by more than the tolerance. Takes about a minute on one core.
    """
    if method not in METHODS:
        raise ConfigError(f"no proof of a method {method!r}{did_you_mean(method, METHODS)}",
                          hint=f"these can be proven: {', '.join(METHODS)}")
    if not 0 < beta < float("inf"):
        raise ConfigError(f"--beta {beta:g} has no optimum to compare with", hint="give a finite number above 0")
    setup_logging(1 if verbose else -1 if quiet else 0)
    with only_json_on_stdout(as_json):
        from tutelage.proofs import check

        proof = check.prove(method, beta=beta, seed=seed, scaled=not unscaled)
    if as_json:
        print_result(check.as_json(proof), as_json)
    else:
        print(check.as_text(proof))
    return 0 if proof.proven else 1
