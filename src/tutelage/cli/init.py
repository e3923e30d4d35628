"""`tutelage init --model M --data FILE`: look at the data, write a pipeline that fits the model, and say what running it will take."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.log import get_logger, only_warnings, setup_logging

from .output import only_json_on_stdout, print_result

if TYPE_CHECKING:
    from tutelage.recipes.pipeline import Verb
    from tutelage.text import readers

    from .init_config import DataFacts

log = get_logger()
_MEASURED_ROWS = 200
"""Lengths are taken from so many rows."""


@click.command()
@click.option("--model", required=True, metavar="FOLDER_OR_NAME",
              help="A model folder, checkpoint or run; or ORG/NAME, fetched from the hub.")
@click.option("--data", "files", required=True, multiple=True, metavar="FILE",
              help="Demonstrations, preferences or prompts; may be repeated.")
@click.option("--out", default="aligned", show_default=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where the file goes.")
@click.option("--layout", default="auto", metavar="NAME", help="The layout of the one FILE; by default it is told from the first rows.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Where a column of ours stands in the one FILE.")
@click.option("--lora", "rank", type=click.IntRange(0), metavar="RANK",
              help="Train adapters of this rank, 0: all weights. By default adapters of rank 16 from 100 million parameters.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where tensors live, as torch names it.")
@click.option("--no-forecast", is_flag=True, help="Do not try steps of each stage to tell time and memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
def init(model: str, files: tuple[str, ...], out: Path, layout: str, columns: tuple[str, ...], rank: int | None, device: str,
         no_forecast: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """From a model and data to a pipeline: write FOLDER/align.yaml with settings that fit, and forecast its time and memory.

    Demonstrations make an sft stage; preferences, rankings and ratings make reward, ppo and evaluate stages; prompts are what ppo asks.
    """
    setup_logging(1 if verbose else -1 if quiet else 0)
    with only_json_on_stdout(as_json):
        result = write_pipeline(model, files, out, layout, _columns(columns), rank=rank, device=device, with_forecast=not no_forecast)
    if not as_json:                                                  # what was read is in the log above
        result["forecast"] = {name: f"about {told['seconds']:.0f} s, {told['peak_memory_mb']} MB"
                              for name, told in result.get("forecast", {}).items()}
        del result["data"]
    print_result(result, as_json)


def write_pipeline(model: str, files: Sequence[str], out: Path, layout: str, columns: dict[str, str], *, rank: int | None, device: str,
                   with_forecast: bool) -> dict[str, Any]:
    """Everything init does. Returns what it prints. Raises: ConfigError, DataError, ArtifactError before anything is written."""
    file = out / "align.yaml"
    if file.exists():
        raise ConfigError(f"{file} is there already", hint="choose another --out, or delete it")
    if (layout != "auto" or columns) and len(files) > 1:
        raise ConfigError(f"--layout and --column speak of one file, and {len(files)} are given",
                          hint="init with that file alone, then add the others to what was written, under data.sources")
    from tutelage.base.config import load_config
    from tutelage.base.files import atomic_write_text
    from tutelage.models.hub import find_or_fetch
    from tutelage.recipes.pipeline import PipelineConfig, plan, standard_verbs
    from tutelage.text.tokenizer import open_tokenizer

    from .init_config import model_facts, pipeline_text

    folder = find_or_fetch(model)
    facts, tokenizer = model_facts(folder, rank), open_tokenizer(folder)
    data = [survey(name, layout, columns, tokenizer) for name in files]
    _check_uses(data)
    for one in data:
        log.info("%s: %d rows of layout %s, read as %s", one.file, one.rows, one.layout, one.use)
    text = pipeline_text(model, facts, data, run_dir=str(out / "run"), memory_bytes=_memory_bytes(device), device=device)
    last = "ppo" if any(one.use == "judgements" for one in data) else "sft"
    result: dict[str, Any] = {
        "file": str(file), "model": str(folder), "parameters": facts.parameters,
        "data": {one.file: {"layout": one.layout, "read_as": one.use, "rows": one.rows, "left_out": one.left_out} for one in data}}
    with tempfile.TemporaryDirectory(prefix="tutelage-init-") as scratch:
        trial = Path(scratch) / "align.yaml"
        trial.write_text(text, encoding="utf-8")
        stages = plan(load_config(PipelineConfig, trial, env={})[0], standard_verbs(), out / "run")
        if with_forecast:
            result["forecast"] = forecast(stages, folder, Path(scratch))
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, text)
    return result | {"afterwards": f"tutelage chat {out / 'run' / last}", "next": f"tutelage run {file}"}


def survey(file: str, layout: str, columns: dict[str, str], tokenizer: Any) -> DataFacts:
    """What a file holds. Raises: DataError when it cannot be read, its layout cannot be told, or a tenth of its rows cannot be used."""
    from tutelage.text import readers
    from tutelage.text.dataset_info import describe
    from tutelage.text.detect import LAYOUTS

    from .init_config import DataFacts

    options: readers.ReadOptions = {"layout": layout, "columns": columns or None}
    try:
        path = readers.expand_files(file)[0]
        opened = readers.open_rows(path, None, options, readers.rules_of(options))
        found = opened[0] if opened else "plain text"
        goals = ("prompts",) if found == "plain text" else LAYOUTS[found].goals if found in LAYOUTS else ()
        use = next((goal for goal in ("judgements", "demonstrations", "prompts") if goal in goals), None)
        if use is None:
            raise DataError(f"{file}: layout {found} holds nothing to learn answers from",
                            hint="init takes demonstrations, preferences or prompts; learn from text with tutelage pretrain")
        first, rows, left_out = _read(file, use, options)
    except DataError as error:
        error.hint = _as_flags(error.hint)
        raise
    lengths = [_lengths(row, use, tokenizer) for row in first]
    whole, answers = (sorted(column)[int(0.95 * (len(lengths) - 1))] for column in zip(*lengths, strict=True))
    # A dataset_info.json names columns too, which a layout's name in the config would leave unread.
    told_beside = layout == "auto" and not columns and describe(path) is not None
    return DataFacts(file, found, use, None if opened is None or told_beside else found, columns, rows, left_out, whole, answers)


def _read(file: str, use: str, options: readers.ReadOptions) -> tuple[list[Any], int, int]:
    """(the first rows, how many there are, how many cannot be used). Raises: DataError when there are none, or too many of the latter."""
    from tutelage.text import readers

    read: Mapping[str, Any] = {"judgements": readers.iter_judgements, "demonstrations": readers.iter_demonstrations,
                               "prompts": readers.iter_prompts}
    first: list[Any] = []
    rejected: list[readers.Rejected] = []
    count = 0
    for row in read[use](file, **options):
        if isinstance(row, readers.Rejected):
            rejected.append(row)
        else:
            count += 1
            if count <= _MEASURED_ROWS:
                first.append(row)
    readers.check_rejected(count, rejected, options)
    if not first:
        raise DataError(f"{file} holds no {use}", hint="check how the file was made")
    return first, count, len(rejected)


def _lengths(row: Any, use: str, tokenizer: Any) -> tuple[int, int]:
    """(tokens of the whole row, tokens of its longest answer); of a prompt alone, the answer is taken to be as long."""
    from tutelage.text.chat import encode_example, encode_prompt

    if use == "prompts":
        tokens = len(encode_prompt(tokenizer, row))
        return tokens, tokens
    answers = [row.response] if use == "demonstrations" else [response.text for response in row.responses]
    encoded = [encode_example(tokenizer, row.prompt, answer) for answer in answers]
    return max(len(one.tokens) for one in encoded), max(sum(one.response_mask) for one in encoded)


def forecast(stages: Mapping[str, tuple[Verb, Any]], folder: Path, scratch: Path) -> dict[str, Any]:
    """Steps, time and memory of each training stage, from real steps on the model itself in place of what earlier stages will make."""
    from tutelage.models.heads import ScoredModel
    from tutelage.recipes import ppo, reward_model, sft
    from tutelage.text.tokenizer import open_tokenizer

    previews: dict[str, Any] = {"sft": sft.preview, "reward": reward_model.preview, "ppo": ppo.preview}
    told: dict[str, Any] = {}
    for name in [stage for stage in stages if stage in previews]:
        log.info("trying steps of %s", name)
        start: dict[str, Any] = {"policy": str(folder)}
        if name == "ppo":
            tokenizer, start["reward"] = open_tokenizer(folder), str(scratch / "reward")
            ScoredModel.from_policy(folder, seed=0, tokenizer=tokenizer).save(start["reward"], tokenizer)
        cfg = stages[name][1]
        with only_warnings():
            told[name] = previews[name](cfg.model_copy(update={"model": cfg.model.model_copy(update=start)}))["forecast"]
    return told


def _check_uses(data: Sequence[DataFacts]) -> None:
    """Raises: ConfigError when there is nothing to learn from, or prompts that nothing would ask."""
    uses = {one.use for one in data}
    if uses == {"prompts"}:
        raise ConfigError(f"{', '.join(one.file for one in data)}: prompts only, so there is nothing to learn from",
                          hint="add --data with demonstrations (for sft) or preferences (for reward and ppo)")
    if "prompts" in uses and "judgements" not in uses:
        raise ConfigError(f"{next(one.file for one in data if one.use == 'prompts')}: prompts are for ppo, which needs preferences too",
                          hint="add --data with preferences, or leave the prompts out")


def _columns(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--column {pair} is not of the form OURS=THEIRS", hint="for example --column prompt=context")
    return dict(pair.split("=", 1) for pair in pairs)


def _as_flags(hint: str | None) -> str | None:
    """A reader's hint, which speaks of settings, in the flags of init."""
    columns = "--column prompt=context --column response=reply.content"
    if hint and hint.startswith("map them,"):
        return f"map them, for example: {columns}"
    if hint and hint.startswith("mend them,"):
        return f"mend them, or map the columns, for example: {columns}"
    return hint and hint.replace("layout=", "--layout ")


def _memory_bytes(device: str) -> float:
    """What the models may take: the GPU's memory where that is the device, else this machine's."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(f"device={device} cannot be used: torch finds no GPU", hint="cpu always works; tutelage doctor says more")
        return float(torch.cuda.mem_get_info(device)[1])
    from .doctor import memory_bytes

    return float(memory_bytes())
