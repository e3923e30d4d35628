"""The table of docs/models.md: `python benchmarks/architectures.py [NAME …]` runs each tiny architecture through sft, reward and ppo."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.models.architectures import ARCHITECTURES, run_through, save_plain  # noqa: E402
from tutelage.models.heads import ScoredModel  # noqa: E402
from tutelage.text.tokenizer import open_tokenizer  # noqa: E402


def main(names: list[str]) -> None:
    """Print one markdown row per architecture: the largest difference to plain transformers after each stage."""
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    print("| architecture | what is unusual | sft | reward | ppo | sampler |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        reward, base = Path(scratch) / "reward", save_plain(ARCHITECTURES["llama"], Path(scratch) / "base")
        tokenizer = open_tokenizer(base)
        ScoredModel.from_policy(base, seed=0, tokenizer=tokenizer).save(reward, tokenizer)
        for number, name in enumerate(names or ARCHITECTURES):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            gaps = run_through(name, folder, reward)
            stages = ("sft", "reward", "ppo", "sampler")
            cells = [f"{gaps[stage]:.0e}".replace("0e+00", "0") if stage in gaps else "Llama's" for stage in stages]
            print(f"| {name} | {ARCHITECTURES[name].about} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
