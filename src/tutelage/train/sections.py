"""Config sections that several recipes share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tutelage.base.config import MAX_SEED, Section
from tutelage.base.errors import ConfigError

ONE_OR_MORE = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
Names = Annotated[list[str], ONE_OR_MORE]
Epochs = Annotated[float, Field(gt=0, le=1e6)] | None
"""A list of names; one alone may stand without brackets."""


class OptimSection(Section):
    """AdamW, its schedule and gradient clipping."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate, per optimizer step."""
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """Shape after the warm-up: cosine or linear to min_lr_frac; wsd holds the peak, then falls over the last decay_frac; constant stays."""
    warmup_frac: float = Field(0.05, ge=0, lt=1)
    """Share of all steps over which the rate climbs linearly from 0."""
    decay_frac: float = Field(0.2, gt=0, le=1)
    """Share of all steps over which wsd falls."""
    min_lr_frac: float = Field(0.1, ge=0, le=1)
    """Last learning rate as a share of the peak."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are never decayed."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Decay of Adam's second moment."""
    eps: float = Field(1e-8, gt=0)
    """Adam's epsilon, added after bias correction (PyTorch's form)."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Global gradient norm above which the gradient is scaled down."""
    microbatch_size: int | None = Field(None, ge=1)
    """Rows per forward pass; None takes the whole batch at once. Changes memory, never the gradient."""


class LoraSection(Section):
    """Low-rank adapters: the base stays as it is, and only what is added to it learns (docs/memory.md)."""

    rank: int = Field(0, ge=0, le=4096)
    """Rank of the adapters; 0 trains all weights. A run that starts from an adapter must give that adapter's rank."""
    alpha: float = Field(32.0, gt=0)
    """Strength of a new adapter: its update is multiplied by alpha / rank."""
    targets: Names = []
    """Linear layers to adapt, by their last names, such as [q_proj, v_proj]; empty takes every one of the transformer."""

    @model_validator(mode="after")
    def _rank_said(self) -> Self:
        if self.model_fields_set and "rank" not in self.model_fields_set:
            raise ValueError("without a rank there is no adapter: set lora.rank, such as 16 (0 trains all weights)")
        return self


class MemorySection(Section):
    """What is traded for memory and time (docs/memory.md)."""

    precision: Literal["float32", "bf16", "auto"] = "float32"
    """bf16 computes the matrix products of training in bfloat16, nearly twice as fast where the processor has instructions for it; weights,
    gradients, optimizer and all measurements stay float32, but a LoRA base is stored in bfloat16, and with it, or in ppo, everything is
    computed so. auto does it where there are such instructions."""
    checkpointing: bool = False
    """Compute activations a second time in the backward pass instead of keeping them: less memory, about a third more time."""
    optimizer: Literal["float32", "8bit"] = "float32"
    """8bit keeps AdamW's two moments in 8 bits each; needs bitsandbytes."""
    base: Literal["full", "8bit", "4bit"] = "full"
    """Bits in which the frozen base under a LoRA adapter is kept; 8bit and 4bit need bitsandbytes."""


class SourceSection(Section):
    """Files of one layout."""

    files: Names = []
    """Paths or globs, one or a list; .gz is unpacked as it is read."""
    layout: str = "auto"
    """A layout's name (docs/data.md); auto detects it from the first rows and says so."""
    columns: dict[str, str] = {}
    """Field -> dotted path in the row, for files in nobody's layout, such as {prompt: context, response: reply.content}."""
    verdicts: dict[str, str] = {}
    """What the file's verdicts are in our words, such as {"0": tie}."""
    mask_where: dict[str, str] = {}
    """Assistant turns whose fields equal these are read but not trained on, such as {kind: call}."""
    cut: Literal["none", "first_turn"] = "none"
    """first_turn ends each prompt with its first user turn and reads equal ones once; where prompts are read."""
    where: dict[str, bool | int | float | str] = {}
    """Rows whose fields equal all of these are read, others passed over, such as {strict: true}."""
    opening_words: int | None = Field(None, ge=1)
    """Rows of text are parted: the first so many words are a raw prompt, the rest its completion; None leaves texts whole."""
    prompt_style: Literal["chat", "raw"] = "chat"
    """Whether a string prompt is one user message or raw text to continue."""
    limit: int | None = Field(None, ge=1)
    """Rows to read at most; None reads all."""

    def read_options(self) -> dict[str, Any]:
        """Keyword arguments of tutelage.text.readers."""
        return {"layout": self.layout, "columns": self.columns or None, "verdicts": self.verdicts, "mask_where": self.mask_where or None,
                "where": self.where or None, "opening_words": self.opening_words, "prompt_style": self.prompt_style, "cut": self.cut,
                "limit": self.limit}


class DataSection(SourceSection):
    """Which files, how to read them, what is held out. One split for all sources, so that no prompt can lie on both sides."""

    sources: list[SourceSection] = []
    """Groups of files instead of `files`: [{files: [a], columns: {…}}, {files: [b]}]; what a source does not say it takes from here."""
    eval_frac: float = Field(0.05, ge=0, lt=1)
    """Share of prompts held out, chosen by a hash of the prompt, so one prompt lies on one side in every file."""
    split_by: Literal["prompt", "first_turn", "opening"] = "prompt"
    """What is hashed: the whole prompt, the conversation's first_turn of the user (all contexts of one dialogue stay together), or the
    opening, the first four words (a text and its opening stay together)."""
    split_seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seed of that hash; stages of one pipeline must share it."""
    held_out: str | None = None
    """File that names the held-out prompts, one a line, in place of eval_frac and split_seed."""
    near_duplicates: Literal["leave_out", "keep"] = "leave_out"
    """Training rows whose prompt nearly repeats a held-out one: leave them out, or keep them and measure on half-known prompts."""

    @model_validator(mode="before")
    @classmethod
    def _sources_inherit(cls, values: Any) -> Any:
        """Spelt out here and not when read, so that a dumped config says all and reads back equal."""
        if not isinstance(values, dict) or not isinstance(values.get("sources"), list):
            return values
        shared = {name: values[name] for name in SourceSection.model_fields if name in values and name != "files"}
        return values | {"sources": [shared | source if isinstance(source, dict) else source for source in values["sources"]]}

    @model_validator(mode="after")
    def _files_or_sources(self) -> Self:
        if bool(self.files) == bool(self.sources):
            raise ValueError("give either files or sources" if self.files else "name files, or sources where files differ in layout")
        if any(not source.files for source in self.sources):
            raise ValueError("a source without files")
        return self

    def split_options(self) -> dict[str, Any]:
        """Keyword arguments of tutelage.base.split.split_sides but for keep_near."""
        return {"eval_frac": self.eval_frac, "seed": self.split_seed, "by": self.split_by, "held_out": self.held_out}

    def side_options(self) -> dict[str, Any]:
        """Keyword arguments of tutelage.base.split.split_sides."""
        return self.split_options() | {"keep_near": self.near_duplicates == "keep"}

    def each(self) -> list[tuple[list[str], dict[str, Any]]]:
        """(files, read options) of every source, for tutelage.text.readers.read_sources."""
        return [(source.files, source.read_options()) for source in self.sources or [self]]

    def all_files(self) -> list[str]:
        """Names of all sources' files and of `held_out`, as written."""
        return [name for files, _ in self.each() for name in files] + ([self.held_out] if self.held_out else [])


class SaveSection(Section):
    """Checkpoints."""

    every_steps: int | None = Field(None, ge=1)
    """Save each so many steps (iterations in PPO); None saves at the end only."""
    keep_last: int | None = Field(None, ge=1)
    """Delete older checkpoints beyond so many; None keeps all."""


class TrackSection(Section):
    """Other places that are shown the metrics; metrics.jsonl in the run's folder always has them all."""

    to: Annotated[list[Literal["tensorboard", "trackio", "wandb", "mlflow"]], ONE_OR_MORE] = []
    """Trackers: any of tensorboard, trackio, wandb, mlflow."""
    project: str = "tutelage"
    """What the run is filed under there: the project (experiment in mlflow); tensorboard has none."""
    name: str | None = None
    """The run's name there; None takes its folder's."""


class Budget(Section):
    """How long to train: steps or epochs, exactly one."""

    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps."""
    epochs: Epochs = None
    """Passes over the training data."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of max_steps and epochs; null takes the other away, as in train.epochs=null")
        return self

    def steps(self, num_rows: int, batch_size: int) -> int:
        """Optimizer steps this budget means for num_rows rows; the last partial batch of an epoch is dropped.

        Raises: ConfigError when not even one batch can be filled.
        """
        if num_rows < batch_size:
            raise ConfigError(f"train.batch_size={batch_size} is more than the {num_rows} rows to train on", hint="lower train.batch_size")
        if self.max_steps is not None:
            return self.max_steps
        assert self.epochs is not None
        return max(1, round(self.epochs * (num_rows // batch_size)))
