"""Config: precedence, YAML 1.2 scalars, and errors that name the place and the nearest key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, model_validator

from tutelage.base.config import RunConfig, Section, config_schema, dump_config, load_config, parse_scalar
from tutelage.base.errors import ConfigError


class Optim(Section):
    learning_rate: float = 1e-3
    """Step size."""
    warmup_steps: int = 0


class Toy(RunConfig):
    name: str = "toy"
    kind: Literal["cosine", "wsd"] = "cosine"
    data: Path | None = None
    tags: tuple[str, ...] = ()
    batch_size: int = 8
    minibatch_size: int = 4
    optim: Optim = Optim()

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        if self.batch_size % self.minibatch_size:
            raise ValueError(f"batch_size={self.batch_size} is not a multiple of minibatch_size={self.minibatch_size}")
        return self


class Start(Section):
    tokens: int = 0
    policy: str


class Needy(Section):
    model: str


class NeedyInside(Section):
    start: Start


def write(tmp_path: Path, text: str, name: str = "c.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def error_of(tmp_path: Path, text: str = "", overrides: tuple[str, ...] = (), env: dict[str, str] | None = None,
             name: str = "c.yaml") -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Toy, write(tmp_path, text, name) if text else None, list(overrides), env or {})
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_each_source_wins_over_the_one_before_it_and_is_named(tmp_path):
    path = write(tmp_path, "optim:\n  learning_rate: 2e-3\nname: file\nseed: 1\nbatch_size: 4\n")
    cfg, origins = load_config(Toy, path, ["optim.learning_rate=4e-3"], {"TUTELAGE_OPTIM__LEARNING_RATE": "3e-3", "TUTELAGE_SEED": "2"})
    assert (cfg.optim.learning_rate, cfg.seed, cfg.name, cfg.minibatch_size) == (4e-3, 2, "file", 4)
    assert origins["optim.learning_rate"] == "command line"
    assert origins["seed"] == "environment"
    assert origins["name"] == f"{path}:3"
    assert origins["batch_size"] == f"{path}:5"
    assert origins["minibatch_size"] == origins["optim.warmup_steps"] == "default"


@pytest.mark.parametrize(("text", "value"), [  # YAML 1.2.2, chapter 10.3.2, and the Norway problem of YAML 1.1
    ("1e-4", 1e-4), ("1E3", 1000.0), ("no", "no"), ("yes", "yes"), ("off", "off"), ("true", True), ("FALSE", False), ("~", None),
    ("null", None), ("0o7", 7), ("0x3A", 58), ("-19", -19), ("+12e03", 12000.0), ("-2E+05", -200000.0), (".5", 0.5), ("0.", 0.0),
    (".inf", math.inf),
    ("-.INF", -math.inf), ("12:30:45", "12:30:45"), ("2001-12-14", "2001-12-14"), ("1_000", "1_000"), ("010", 10), ("", None), ("e5", "e5"),
])
def test_plain_scalars_are_those_of_yaml_1_2(text, value, tmp_path):
    parsed = parse_scalar(text)
    assert parsed == value and type(parsed) is type(value)
    if text:
        class Any_(Section):
            x: object = None
        assert load_config(Any_, write(tmp_path, f"x: {text}\n"), [], {})[0].x == value


def test_text_fields_take_text_as_written(tmp_path):
    cfg, _ = load_config(Toy, write(tmp_path, "name: 007\ntags: [no, 1e3, plain]\ndata: 2024\n"), [], {})
    assert (cfg.name, cfg.tags, cfg.data) == ("007", ("no", "1e3", "plain"), Path("2024"))
    assert load_config(Toy, None, ["name=true", "tags=[1, b]"], {})[0].name == "true"
    assert load_config(Toy, None, ["name=a: b # c"], {})[0].name == "a: b # c"


def test_a_replaced_value_leaves_no_text_behind(tmp_path):
    assert error_of(tmp_path, "tags: [007]\n", ("tags=[[1]]",)) == "command line: tags.0: should be a valid string, got [1]"


@given(st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False),
       st.lists(st.sampled_from(["no", "1e-4", "null", "~", "0x1", "12:30", "a", " ", "- b", "#"]), max_size=4))
def test_a_dumped_config_reads_back_equal(tmp_path_factory, name, rate, tags):
    cfg = Toy(name=name, optim=Optim(learning_rate=rate), tags=tuple(tags))
    path = write(tmp_path_factory.mktemp("dump"), dump_config(cfg))
    assert load_config(Toy, path, [], {})[0] == cfg


def test_plain_yaml_readers_agree_with_our_dump():
    cfg = Toy(tags=("no", "1e-4"), optim=Optim(learning_rate=1e-5))
    assert yaml.safe_load(dump_config(cfg)) == cfg.model_dump(mode="json") | {"tags": ["no", "1e-4"]}


def test_a_child_file_wins_over_its_parent_section_by_section(tmp_path):
    write(tmp_path, "name: parent\noptim:\n  learning_rate: 1\n  warmup_steps: 5\n", "p.yaml")
    cfg, origins = load_config(Toy, write(tmp_path, "include: p.yaml\noptim:\n  learning_rate: 2\n"), [], {})
    assert (cfg.name, cfg.optim.learning_rate, cfg.optim.warmup_steps) == ("parent", 2, 5)
    assert origins["optim.warmup_steps"] == f"{tmp_path / 'p.yaml'}:4"


def test_toml_is_read_with_lines(tmp_path):
    path = write(tmp_path, 'name = "t"\n\n[optim]\nlearning_rate = 2e-3\n', "c.toml")
    cfg, origins = load_config(Toy, path, [], {})
    assert (cfg.name, cfg.optim.learning_rate) == ("t", 2e-3)
    assert origins["optim.learning_rate"] == f"{path}:4"
    assert error_of(tmp_path, "[optim]\n\nwarmup_step = 1\n", name="d.toml") == (
        "d.toml:3: optim.warmup_step: unknown key (did you mean warmup_steps?)")
    assert error_of(tmp_path, "name = \n", name="e.toml").startswith("e.toml:1: not TOML: ")


@pytest.mark.parametrize(("text", "message"), [
    ("optim:\n  learning_rat: 1\n", "c.yaml:2: optim.learning_rat: unknown key (did you mean learning_rate?)"),
    ("seed: 1\nlearning_rate: 1\n", "c.yaml:2: learning_rate: unknown key (did you mean optim.learning_rate?)"),
    ("optim:\n  lr: 1\n", "c.yaml:2: optim.lr: unknown key (did you mean optim.learning_rate?)"),
    ("seed: many\n", "c.yaml:1: seed: should be a valid integer, got 'many'"),
    ("optim:\n  warmup_steps: 1.5\n", "c.yaml:2: optim.warmup_steps: should be a valid integer, got 1.5"),
    ("optim: fast\n", "c.yaml:1: optim: should be a section of keys, got 'fast'"),
    ("kind: cosin\n", "c.yaml:1: kind: should be 'cosine' or 'wsd', got 'cosin' (did you mean cosine?)"),
    ("optim:\n  learning_rate: .nan\n", "c.yaml:2: optim.learning_rate: should be a finite number, got nan"),
    ("batch_size: 6\n", "c.yaml: batch_size=6 is not a multiple of minibatch_size=4"),
    ("seed: 1\nseed: 2\n", "c.yaml:2: seed: given twice"),
    ("- a\n- b\n", "c.yaml:1: should hold `key: value` lines, found '- a\\n- b'"),
    ("seed: [1\n", "c.yaml:2: not YAML: expected ',' or ']', but got '<stream end>'"),
    ("a: &a [*a]\n", "c.yaml: nested too deeply"),
    ("include: nope.yaml\n", "c.yaml:1: include: no file {dir}/nope.yaml"),
    ("include: c.yaml\n", "{dir}/c.yaml: include: goes round in a circle"),
    ("include: [a, b]\n", "c.yaml:1: include: should be one file name, got ['a', 'b']"),
    ("   \n", "c.yaml: the file is empty"),
])
def test_a_wrong_file_gives_one_line_with_place_and_remedy(tmp_path, text, message):
    assert error_of(tmp_path, text) == message.replace("{dir}/", "")


def test_every_fault_gets_its_own_line(tmp_path):
    assert error_of(tmp_path, "sed: 1\nbatch_size: x\n", ("kind=z",)).splitlines() == [
        "command line: kind: should be 'cosine' or 'wsd', got 'z'", "c.yaml:2: batch_size: should be a valid integer, got 'x'",
        "c.yaml:1: sed: unknown key (did you mean seed?)"]


def test_wrong_overrides_and_variables_name_their_source(tmp_path):
    assert error_of(tmp_path, overrides=("seed",)) == "command line: 'seed' is not of the form section.key=value"
    assert error_of(tmp_path, overrides=("sed=1",)) == "command line: sed: unknown key (did you mean seed?)"
    assert error_of(tmp_path, overrides=("tags=[a",)) == "command line: tags: '[a' is not a YAML value"
    assert error_of(tmp_path, env={"TUTELAGE_OPTIM__RATE": "1"}).startswith("environment: optim.rate: unknown key")
    assert load_config(Toy, None, [], {"TUTELAGE_HOME": "/x"})[0] == Toy()


def test_a_required_key_is_asked_for():
    with pytest.raises(ConfigError, match="^config: model: is required and was not given$"):
        load_config(Needy, None, [], {})
    with pytest.raises(ConfigError, match="^config: start: is required and was not given: set start.policy$"):
        load_config(NeedyInside, None, [], {})


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    def fail(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(Toy, path, [], {})
        assert caught.value.hint
        return str(caught.value).replace(str(tmp_path) + "/", "").replace(str(tmp_path), "DIR")

    write(tmp_path, "seed: 1\n", "ppo.yaml")
    assert fail(tmp_path / "pp.yaml") == "pp.yaml: no such file (did you mean ppo.yaml?)"
    assert fail(tmp_path) == "DIR: is a folder, not a config file"
    (tmp_path / "b.yaml").write_bytes(b"seed: \xff\x00")
    assert fail(tmp_path / "b.yaml") == "b.yaml: not UTF-8 text (byte 0xff at offset 6)"


def test_a_config_is_frozen_and_its_docstrings_describe_the_schema():
    with pytest.raises(ValidationError):
        Toy().seed = 3
    schema = config_schema(Toy)
    assert schema["$defs"]["Optim"]["properties"]["learning_rate"]["description"] == "Step size."
    assert schema["additionalProperties"] is False and {"include", "verb"} <= schema["properties"].keys()
