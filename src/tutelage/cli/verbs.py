"""The verbs: what each is called, what it does in one line, and where it lives. Names only; nothing is imported here."""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """A verb of the common form: `function(config)` runs it and returns a result; `preview(config)` of its module serves --dry-run."""

    summary: str
    module: str
    config: str
    function: str
    runs_code: bool = False
    """Whether its config may name Python code, which runs with --allow-code only."""


class Command(NamedTuple):
    """A verb with a form of its own: `target` is module:attribute of a click command."""

    summary: str
    target: str


RECIPES = {
    "run": Recipe("A whole pipeline from one config.", "tutelage.recipes.pipeline", "PipelineConfig", "run_pipeline", runs_code=True),
    "pretrain": Recipe("Raw text to a base model.", "tutelage.recipes.pretrain", "PretrainConfig", "pretrain"),
    "sft": Recipe("A base model and demonstrations to a policy.", "tutelage.recipes.sft", "SFTConfig", "train_sft"),
    "sample": Recipe("K answers per prompt, with log-probs.", "tutelage.recipes.sample", "SampleConfig", "sample_answers"),
    "contrast": Recipe("Conversations to pairs that need no labels.", "tutelage.recipes.contrast", "ContrastConfig", "make_contrasts"),
    "reward": Recipe("Judgements to a reward model.", "tutelage.recipes.reward_model", "RewardConfig", "train_reward_model"),
    "ppo": Recipe("A policy and a reward model to a better policy.", "tutelage.recipes.ppo", "PPOConfig", "train_ppo", runs_code=True),
    "evaluate": Recipe("Models side by side on held-out prompts, and a report.", "tutelage.recipes.evaluate", "EvaluateConfig", "evaluate"),
}

FLAGGED = {
    ("evaluate", "cv"): Recipe("Reward models over folds of prompts, beside guesses from length and words.",
                               "tutelage.recipes.cross_validate", "CrossValidationConfig", "cross_validate"),
}
"""(verb, flag) -> another recipe of the verb, with a config of its own."""


def configured() -> dict[str, Recipe]:
    """Everything that has settings, by the name its settings go by."""
    return RECIPES | {flag: recipe for (_, flag), recipe in FLAGGED.items()}


COMMANDS = {
    "demo": Command("The embedded world: the whole circle on this machine.", "tutelage.cli.demo:demo"),
    "init": Command("A model and data to a pipeline with settings that fit, and its forecast.", "tutelage.cli.init:init"),
    "chat": Command("Talk with a model in the terminal.", "tutelage.cli.chat:chat"),
    "serve": Command("Models over HTTP to OpenAI clients, and scores by a reward model.", "tutelage.cli.serve:serve"),
    "export": Command("A run or an adapter to one plain model folder, adapters merged.", "tutelage.cli.export:export"),
    "prove": Command("The shipped algorithm against the exact optimum of a small task.", "tutelage.cli.prove:prove"),
    "feedback": Command("What people said: bring it in, count it, take it out, freeze it, train on it.", "tutelage.cli.feedback:feedback"),
    "studio": Command("The web app where people write and judge.", "tutelage.cli.studio:studio"),
    "data": Command("Look into a data file, or write it in another layout or without personal data.", "tutelage.cli.data:data"),
    "config": Command("Show or describe the settings of a verb.", "tutelage.cli.config:config"),
    "doctor": Command("Check this machine: versions, memory, disk, speed.", "tutelage.cli.doctor:doctor"),
}
