"""Tokens per second of InProcessEngine beside transformers' own `generate`, on the same work.

usage: python benchmarks/rollout.py [--threads 1] [--rows 256] [--repeats 5]

A nano policy (width 128, 4 layers, vocabulary 1,200), prompts of 16 to 32 tokens, 48 tokens per answer, temperature 1. Three shapes of
work: every prompt different; four answers per prompt; four answers per prompt that stop early at a stop token. Tokens after a stop count
for nobody. The two sides take turns, and the ratio is that of their medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.models.presets import PRESETS
from tutelage.rollout import InProcessEngine, Sampling

VOCAB, MAX_TOKENS = 1200, 48


def nano() -> LlamaForCausalLM:
    size = PRESETS["nano"]
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=size.hidden_size, intermediate_size=size.ffn_size, num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads, num_key_value_heads=size.num_heads, max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=None)).eval()


def prompts_of(rows: int, answers: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(16, 33, (rows // answers,), generator=generator).tolist()
    return [row for row in (torch.randint(7, VOCAB, (n,), generator=generator).tolist() for n in lengths) for _ in range(answers)]


def ours(model: LlamaForCausalLM, prompts: list[list[int]], stops: list[int], seed: int) -> int:
    engine = InProcessEngine(model, 0, max_batch=len(prompts))
    return sum(len(c.tokens) for c in engine.generate(prompts, Sampling(max_tokens=MAX_TOKENS, stop_tokens=tuple(stops), seed=seed)))


def theirs(model: LlamaForCausalLM, prompts: list[list[int]], stops: list[int], seed: int) -> int:
    torch.manual_seed(seed)
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(tokens, attention_mask=mask, max_new_tokens=MAX_TOKENS, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                         pad_token_id=0, eos_token_id=stops or None)[:, width:]
    stopped = torch.isin(out, torch.tensor(stops, dtype=torch.long)).int().cumsum(1)
    return int((stopped == 0).sum() + (stopped > 0).any(1).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = nano()
    sides: dict[str, Callable[..., int]] = {"ours": ours, "generate": theirs}
    works = {"distinct prompts": (prompts_of(args.rows, 1), []), "4 answers each": (prompts_of(args.rows, 4), []),
             "4 answers, early stops": (prompts_of(args.rows, 4), list(range(7, 67)))}
    for work, (prompts, stops) in works.items():
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for repeat in range(args.repeats + 1):
            for side, generate in sides.items():
                start = time.perf_counter()
                produced = generate(model, prompts, stops, repeat)
                rates[side].append(produced / (time.perf_counter() - start))
        mid = {side: statistics.median(rate[1:]) for side, rate in rates.items()}                    # the first round warms up
        print(f"{work:24}{args.threads} thread(s)  ours {mid['ours']:8,.0f} tokens/s  generate {mid['generate']:8,.0f}  "
              f"ratio {mid['ours'] / mid['generate']:.2f}")


if __name__ == "__main__":
    main()
