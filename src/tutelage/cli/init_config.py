"""What `tutelage init` suggests for a model of some size and data of some length, and the commented file that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tutelage.base.files import read_json_object
from tutelage.models.folders import count_parameters


@dataclass(frozen=True)
class Rates:
    """Peak learning rates for models up to a size."""

    parameters: float
    sft: float
    reward: float
    ppo: float
    critic: float


RATES = (Rates(10e6, 5e-4, 3e-4, 1e-4, 3e-4), Rates(100e6, 1e-4, 5e-5, 2e-5, 6e-5), Rates(3e9, 1e-5, 1e-5, 3e-6, 1e-5),
         Rates(math.inf, 5e-6, 5e-6, 1e-6, 5e-6))
"""Up to ten million parameters as this project's demo was tuned; at a billion InstructGPT's 1e-5 for SFT, 9e-6 for the reward model
(arXiv:2203.02155, appendix C) and the 3e-6 of PPO of Huang et al. 2024 (arXiv:2403.17031); between them and above, the same trend."""


WHOLE = 100e6
"""Models of more parameters learn through adapters, unless the user says otherwise."""
RANK = 16
ADAPTER_RATE = 10
"""An adapter learns best at about ten times the rate of the whole model, for supervised learning as for policy gradients (Schulman and
Thinking Machines Lab 2025, "LoRA Without Regret")."""


@dataclass(frozen=True)
class ModelFacts:
    """What of a model decides the settings."""

    folder: Path
    parameters: int
    layers: int
    hidden: int
    vocab: int
    rank: int = 0
    """Rank of the adapters that learn; 0 trains all weights."""

    @property
    def rates(self) -> Rates:
        """Learning rates for a model of this size, trained whole or through adapters."""
        row = next(row for row in RATES if self.parameters <= row.parameters)
        times = ADAPTER_RATE if self.rank else 1
        return Rates(row.parameters, times * row.sft, times * row.reward, times * row.ppo, times * row.critic)

    @property
    def fixed_bytes(self) -> float:
        """What PPO keeps beside activations: four models in float32, two with gradients and Adam's moments; with adapters one."""
        return (4 if self.rank else 40) * self.parameters


@dataclass(frozen=True)
class DataFacts:
    """One file: how it is read, for what, and how long its rows are (95th percentiles over the first ones, tokens)."""

    file: str
    layout: str
    use: str
    """demonstrations, judgements or prompts."""
    written_layout: str | None
    """What the config says of the layout; None where nothing needs to be said."""
    columns: dict[str, str]
    rows: int
    left_out: int
    row_tokens: int
    answer_tokens: int


def model_facts(folder: Path, rank: int | None) -> ModelFacts:
    """Sizes of a model from its config and the headers of its weights, which are not loaded. rank: None chooses by size.

    Raises: ArtifactError.
    """
    config = read_json_object(folder / "config.json", hint="copy the model folder again")
    inner = config.get("text_config")
    config = inner if isinstance(inner, dict) else config

    def number(*names: str) -> int:
        return next((config[name] for name in names if isinstance(config.get(name), int)), 1)

    parameters = count_parameters(folder)
    chosen = (RANK if parameters > WHOLE else 0) if rank is None else rank
    return ModelFacts(folder, parameters, number("num_hidden_layers", "n_layer", "num_layers"),
                      number("hidden_size", "n_embd", "d_model"), number("vocab_size"), chosen)


def microbatch(model: ModelFacts, row_tokens: int, memory_bytes: float) -> int:
    """Rows per forward pass that should fit: a power of two from 1 to 64.

    A token keeps about 68 bytes per layer and hidden unit in float32 (twice the 34 of Korthikanti et al. 2022, arXiv:2205.05198, eq. 1,
    which counts halves) and four rows of logits.
    """
    per_row = row_tokens * (68 * model.layers * model.hidden + 16 * model.vocab)
    rows = (0.7 * memory_bytes - model.fixed_bytes) / per_row
    return 2 ** int(min(6, max(0, math.log2(max(rows, 1)))))


def batch_size(rows: int, epochs: float, *, least: int = 4, most: int = 32) -> int:
    """The largest power of two that still makes a hundred steps of the rows, between least and most."""
    return max(least, min(most, 2 ** int(math.log2(max(1.0, rows * epochs / 100)))))


def pipeline_text(name: str, model: ModelFacts, data: Sequence[DataFacts], *, run_dir: str, memory_bytes: float, device: str) -> str:
    """The YAML of a pipeline: sft if there are demonstrations; reward, ppo and evaluate if there are judgements."""
    demonstrations, judgements = ([one for one in data if one.use == use] for use in ("demonstrations", "judgements"))
    prompts = [one for one in data if one.use == "prompts"] or judgements
    start = "${run}/sft" if demonstrations else str(model.folder)
    stages = []
    if demonstrations:
        stages.append(_sft(model, demonstrations, memory_bytes))
    if judgements:
        stages += [_reward(model, start, judgements, memory_bytes), _ppo(model, start, prompts, memory_bytes),
                   _evaluate(start, prompts)]
    read = "".join(f"#   {one.file}: {one.rows:,} rows of layout {one.layout}, read as {one.use}"
                   + (f"; {one.left_out} left out" if one.left_out else "") + "\n" for one in data)
    return (f"# Written by tutelage init for {name} ({model.parameters / 1e6:,.1f} million parameters) and\n{read}"
            + (f"# Adapters of rank {model.rank} learn, the model's own weights stay (docs/memory.md); init --lora 0 trains all weights.\n"
               if model.rank else "") +
            "# What is left out has its default; `tutelage config show VERB` lists all. Paths are seen from where you start the run.\n"
            f"run_dir: {_flow(run_dir)}\n" + (f"device: {_flow(device)}\n" if device != "cpu" else "") + "stages:\n" + "".join(stages))


def _sft(model: ModelFacts, data: Sequence[DataFacts], memory_bytes: float) -> str:
    rows, epochs = sum(one.rows for one in data), 3
    longest = max(one.row_tokens for one in data)
    batch = batch_size(rows, epochs)
    return f"""\
  # Learn from the answers people wrote.
  sft:
    verb: sft
    config:
      model: {{policy: {_flow(str(model.folder))}}}{_lora(model)}
      data: {_data(data)}
      train: {{epochs: {epochs}, batch_size: {batch}}}
      optim:
        learning_rate: {model.rates.sft:g}  # for a model of this size; less where the held-out loss rises at once
        # Rows per forward pass, of about {longest} tokens: it changes memory, never the result.
        microbatch_size: {min(batch, microbatch(model, longest, memory_bytes))}
"""


def _reward(model: ModelFacts, start: str, data: Sequence[DataFacts], memory_bytes: float) -> str:
    rows, longest = sum(one.rows for one in data), max(one.row_tokens for one in data)
    batch = batch_size(rows, 1)
    return f"""\
  # Learn what people prefer.
  reward:
    verb: reward
    config:
      model: {{policy: {_flow(start)}}}{_lora(model)}
      data: {_data(data)}
      train: {{epochs: 1, batch_size: {batch}}}  # a second epoch overfits soon
      optim:
        learning_rate: {model.rates.reward:g}
        microbatch_size: {min(batch, microbatch(model, 2 * longest, memory_bytes))}  # judgements, of about 2 x {longest} tokens
"""


def _ppo(model: ModelFacts, start: str, data: Sequence[DataFacts], memory_bytes: float) -> str:
    batch = batch_size(sum(one.rows for one in data), 100, least=8, most=64)
    answer = min(512, max(16, 16 * math.ceil(max(one.answer_tokens for one in data) / 16)))
    longest = max(one.row_tokens for one in data) + answer
    return f"""\
  # Answer so, and stay near the start: kl_coef, the price of a nat of distance, moves until answers lie about kl_target nats away.
  # Far off, answers please the reward model and no longer people.
  ppo:
    verb: ppo
    config:
      model: {{policy: {_flow(start)}, reward: '${{run}}/reward'}}{_lora(model)}
      data: {_data(data)}
      rollout: {{max_tokens: {answer}}}  # longest answer; 95 of 100 in the data are no longer
      algo: {{num_iterations: 100, batch_size: {batch}, minibatch_size: {batch // 4}, kl_coef: 0.1, kl_target: 6, kl_horizon: 500}}
      critic: {{learning_rate: {model.rates.critic:g}}}
      optim:
        learning_rate: {model.rates.ppo:g}
        microbatch_size: {min(batch // 4, microbatch(model, longest, memory_bytes))}  # rows of up to {longest} tokens
      save: {{every_steps: 20, keep_last: 2}}
"""


def _evaluate(start: str, data: Sequence[DataFacts]) -> str:
    return f"""\
  # Before and after, on prompts held out from all of the above; the report is a page to look at.
  evaluate:
    verb: evaluate
    config:
      models: {{before: {{path: {_flow(start)}}}, ppo: {{path: '${{run}}/ppo'}}}}
      reward: '${{run}}/reward'
      data: {_data(data)}
"""


def _lora(model: ModelFacts) -> str:
    return f"\n      lora: {{rank: {model.rank}}}" if model.rank else ""


def _data(data: Sequence[DataFacts]) -> str:
    """A data section; one split for all stages, so that what is held out stays held out."""
    sources: list[dict[str, Any]] = []
    for one in data:
        says: dict[str, Any] = {"layout": one.written_layout} if one.written_layout else {}
        says |= {"columns": one.columns} if one.columns else {}
        same = next((source for source in sources if {k: v for k, v in source.items() if k != "files"} == says), None)
        if same is None:
            sources.append({"files": [one.file]} | says)
        else:
            same["files"].append(one.file)
    frac = {"eval_frac": 0.1 if sum(one.rows for one in data) >= 200 else 0.2}
    return _flow(sources[0] | frac if len(sources) == 1 else {"sources": sources} | frac)


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    # As the one entry of a list, or text that YAML reads otherwise inside brackets, such as ${run}, would stand bare.
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)[1:-2]
