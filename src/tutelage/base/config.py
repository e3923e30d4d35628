"""Typed configuration: defaults < file < environment < command line, and errors that say where and what.

YAML (1.2 scalars: `1e-4` is a number, `no` is text) or TOML; a file may name one parent with `include:`, and with `verb:` what it is for.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError, did_you_mean
from .faults import explain, origin_of, shorten

ENV_PREFIX = "TUTELAGE_"

MAX_SEED = 2**63 - 1
"""The largest seed that every random generator in use takes."""
_LONGEST_SCALAR = 4300
"""Characters of a number; that many digits Python turns into an integer."""
_MOST_VALUES = 50_000
"""Of one file, counted where they stand: ten lines of YAML can name each other to a thousand million."""
_MOST_BYTES = 16 << 20
"""Of one file."""
_ALL_SETTINGS = "`tutelage config show VERB` lists a verb's settings, `tutelage config schema VERB` says what each may be"

_SCALARS = {  # YAML 1.2 core schema, https://yaml.org/spec/1.2.2/#103-core-schema
    "null": (r"null|Null|NULL|~|", "nN~\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
}


class Section(BaseModel):
    """A group of settings. Frozen; an unknown key is an error; the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False,
                              protected_namespaces=())


class RunConfig(Section):
    """What every run takes; recipes inherit it. The flags --run-dir, --seed, --resume and --device set these."""

    run_dir: Path | None = None
    """Folder of the run; by default one is named after the verb."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Seeds everything random in the run."""
    resume: bool = False
    """Continue an interrupted run from its last checkpoint."""
    device: str = "cpu"
    """Where tensors live, as torch names it."""


C = TypeVar("C", bound=Section)
Origins = dict[str, str]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or 1.2 would read as something other than text."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Only double quotes keep Unicode's own line breaks apart from a newline.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if set(data) & set("\x85\u2028\u2029") else None)


_Dumper.add_representer(str, _Dumper.represent_str)


for _tag, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        # PyYAML looks empty scalars up under "".
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), [c.strip("\0") for c in _first])


def parse_scalar(text: str) -> Any:
    """One plain YAML 1.2 scalar: null, true, 3, 1e-4, or else the text itself, as for a number longer than Python reads."""
    if len(text) > _LONGEST_SCALAR:
        return text
    for tag, (pattern, _) in _SCALARS.items():
        if re.fullmatch(pattern, text):
            if tag == "null":
                return None
            if tag == "bool":
                return text.lower() == "true"
            if tag == "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".nan", "nan")
                         .replace(".NaN", "nan").replace(".NAN", "nan"))
    return text


class _Layer:
    """Settings of one source: nested values, where each key was set, and the text each scalar was written as."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: Origins = {}
        self.texts: dict[str, str] = {}
        self.count = 0

    def set(self, key: str, text: str, origin: str) -> None:
        """One setting from outside a file: a scalar as it stands (so `a: b # c` is text), or a YAML list, mapping or quoted string."""
        if text[:1] in ("[", "{", '"', "'"):
            try:
                node = yaml.compose(text, Loader=_Loader)
                assert node is not None                              # the text is not empty
                value = _from_node(node, origin, key, self)
            except (yaml.YAMLError, RecursionError):
                raise ConfigError(f"{origin}: {key}: {shorten(text)} is not a YAML value",
                                  hint="put text that starts with a bracket or a quote in quotes") from None
            self.origins.update({inner: origin for inner in self.origins if inner.startswith(f"{key}.")})
        else:
            value, self.texts[key] = parse_scalar(text), text
        self.put(key, value, origin)

    def put(self, key: str, value: Any, origin: str) -> None:
        """One setting whose value is known."""
        self.origins[key] = origin
        *sections, name = key.split(".")
        here = self.values
        for section in sections:
            if not isinstance(here.get(section), dict):
                here[section] = {}
            here = here[section]
        here[name] = value

    def over(self, lower: _Layer) -> _Layer:
        """This layer laid over a lower one: sections merge, everything else is replaced."""
        merged = _Layer()
        merged.values = merge(lower.values, self.values)
        merged.origins = lower.origins | self.origins
        merged.texts = {key: text for key, text in lower.texts.items() if not _replaced(key, self.values)} | self.texts
        return merged

    def take_text(self, loc: Sequence[str | int]) -> None:
        """Put a scalar back to the text it was written as, when that is known."""
        key, here = ".".join(map(str, loc)), self.values
        if key in self.texts:
            for part in loc[:-1]:
                here = here[part]  # type: ignore[index]
            here[loc[-1]] = self.texts[key]  # type: ignore[index]


def load_config(cls: type[C], path: Path | None = None, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None,
                *, flags: Mapping[str, Any] | None = None) -> tuple[C, Origins]:
    """Resolve a config from its defaults, a file, the environment and the command line.

    Args: overrides: `section.key=value` each. env: variables to read, os.environ when None.
        flags: key -> value of the command line's flags, taken as they are and over the overrides.
    Returns: the config, and for each dotted key its origin: "file:line", "environment", "command line" or "default".
    Raises: ConfigError with one line per fault.
    """
    layer = _Layer() if path is None else _read_file(Path(path), ())
    layer.values.pop("verb", None)                                   # not a setting: the caller knows its verb, or asked written_verb
    layer = _from_environment(cls, os.environ if env is None else env).over(layer)
    layer = _from_overrides(overrides, flags or {}).over(layer)
    _check_unicode(layer)
    try:
        cfg = cls.model_validate(layer.values)
    except ValidationError as first:
        # A name such as 007 or true is a number or a bool to YAML; where the field is text, take it as it was written.
        for fault in first.errors():
            if fault["type"] in ("string_type", "path_type"):
                layer.take_text(fault["loc"])
        try:
            cfg = cls.model_validate(layer.values)
        except ValidationError as error:
            raise ConfigError("\n".join(explain(cls, layer.values, layer.origins, dict(fault), path) for fault in error.errors()),
                              hint=_ALL_SETTINGS) from None
    return cfg, {key: layer.origins.get(key, "default") for key, _ in leaves(cfg.model_dump(mode="json"))}


def written_verb(path: Path) -> str | None:
    """The verb a config file says it is for; a file with stages is a pipeline, which `run` runs, or folds, which `evaluate --cv` does.

    Raises: ConfigError as load_config.
    """
    layer = _read_file(Path(path), ())
    staged = "evaluate --cv" if "judgements" in layer.values else "run"
    verb = layer.values.get("verb", staged if "stages" in layer.values else None)
    if verb is not None and not isinstance(verb, str):
        raise ConfigError(f"{layer.origins['verb']}: verb: should be one word, got {shorten(verb)}")
    return verb


def read_yaml(path: Path) -> dict[str, Any]:
    """The nested values of a YAML file, nothing included or checked. Raises: ConfigError when it cannot be read."""
    return _read_yaml(path, _read_text(path)).values


def load_values(cls: type[C], values: Mapping[str, Any], *, where: str) -> C:
    """A config from nested values, such as one stage of a pipeline. Raises: ConfigError, one line per fault, each starting with `where`."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(cls, dict(values), {}, dict(fault), Path(where)) for fault in error.errors())) from None


def dump_config(cfg: Section) -> str:
    """The resolved config as YAML that load_config reads back to an equal config."""
    return dump_yaml(cfg.model_dump(mode="json"))


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that `read_yaml` reads back."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def config_schema(cls: type[Section]) -> dict[str, Any]:
    """JSON Schema for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | cls.model_json_schema()
    schema["properties"] = {"include": {"type": "string", "description": "A parent file, relative to this one."},
                            "verb": {"type": "string", "description": "The verb this file is for."}} | schema["properties"]
    return schema


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that is not a section; an empty section is a leaf."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """`high` laid over `low`: sections merge, everything else is replaced."""
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        merged[name] = merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


# ---- sources ---------------------------------------------------------------------------------------------------------------------------


def _read_file(path: Path, children: tuple[Path, ...]) -> _Layer:
    """One file over the parent it includes."""
    if path.resolve() in children:
        raise ConfigError(f"{path}: include: goes round in a circle")
    text = _read_text(path)
    layer = _read_toml(path, text) if path.suffix == ".toml" else _read_yaml(path, text)
    if "include" not in layer.values:
        return layer
    parent, origin = layer.values.pop("include"), layer.origins.pop("include")
    if not isinstance(parent, str):
        raise ConfigError(f"{origin}: include: should be one file name, got {shorten(parent)}")
    if not (path.parent / parent).is_file():
        raise ConfigError(f"{origin}: include: no file {path.parent / parent}")
    return layer.over(_read_file(path.parent / parent, (*children, path.resolve())))


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".yaml", ".yml", ".toml")) if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file{did_you_mean(path.name, near)}",
                          hint="give the path of a YAML or TOML file, or leave it out to use the defaults") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a config file", hint="give the path of a YAML or TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: more than {_MOST_BYTES >> 20} MiB", hint="give the path of a YAML or TOML file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start})",
                          hint="a config is a YAML or TOML text file; save it as UTF-8") from None
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty", hint="leave it out to use the defaults, which `tutelage config show VERB` lists")
    return text


def _read_yaml(path: Path, text: str) -> _Layer:
    layer = _Layer()
    try:
        root = yaml.compose(text, Loader=_Loader)
        if root is None:  # nothing but comments
            return layer
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}:{root.start_mark.line + 1}: should hold `key: value` lines, found {shorten(text.strip())}")
        layer.values = _from_node(root, path, "", layer)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    return layer


def _from_node(node: yaml.Node, path: Path | str, key: str, layer: _Layer) -> Any:
    """Plain values of a YAML node; the line of every mapping key goes into the layer."""
    layer.count += 1
    if layer.count > _MOST_VALUES:
        raise ConfigError(f"{path}: more than {_MOST_VALUES:,} values", hint="aliases count each time they are named")
    if isinstance(node, yaml.SequenceNode):
        return [_from_node(child, path, f"{key}.{i}", layer) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        if key and node.style is None:
            layer.texts[key] = node.value
        return parse_scalar(node.value) if node.style is None else node.value
    assert isinstance(node, yaml.MappingNode)
    values: dict[str, Any] = {}
    for name_node, child in node.value:
        where = f"{path}:{name_node.start_mark.line + 1}"
        if not isinstance(name_node, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key should be a word")
        name = name_node.value
        if name in values:
            raise ConfigError(f"{where}: {key}{'.' if key else ''}{name}: given twice")
        dotted = f"{key}.{name}" if key else name
        layer.origins[dotted] = where
        values[name] = _from_node(child, path, dotted, layer)
    return values


def _read_toml(path: Path, text: str) -> _Layer:
    layer = _Layer()
    try:
        layer.values = tomllib.loads(text)
        keys = [key for key, _ in leaves(layer.values)]
    except ValueError as error:                                      # Python's own, too, for a number of more digits than it reads
        place = re.search(r"at line (\d+)", str(error))
        raise ConfigError(f"{path}{':' + place[1] if place else ''}: not TOML: {re.split(r' [(]at|; use sys', str(error))[0]}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    # tomllib keeps no line numbers: find each key by its table header and its name.
    lines: Origins = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header[1] + "."
            lines[header[1]] = f"{path}:{number}"
        elif assignment := re.match(r"\s*([\w.-]+)\s*=", line):
            lines[table + assignment[1]] = f"{path}:{number}"
    layer.origins = {key: origin_of(lines, key) or str(path) for key in keys} | lines
    return layer


def _from_environment(cls: type[Section], env: Mapping[str, str]) -> _Layer:
    """TUTELAGE_SECTION__KEY. Without a double underscore only the names of top-level keys count: TUTELAGE_HOME is not a setting."""
    layer = _Layer()
    for variable, text in sorted(env.items()):
        key = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if variable.startswith(ENV_PREFIX) and (0 < key.count(".") <= 20 or key in cls.model_fields):
            layer.set(key, text, "environment")
    return layer


def _from_overrides(overrides: Sequence[str], flags: Mapping[str, Any]) -> _Layer:
    layer = _Layer()
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+){,20}", key):
            raise ConfigError(f"command line: {override!r} is not of the form section.key=value")
        layer.set(key, text, "command line")
    for key, value in flags.items():
        layer.put(key, value, "command line")
    return layer


def _check_unicode(layer: _Layer) -> None:
    """Raises: ConfigError for a text that no file can hold: bytes of the command line that are not UTF-8 arrive as half surrogates."""
    for key, value in leaves(layer.values):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigError(f"{origin_of(layer.origins, key)}: {key}: {shorten(value)} is not UTF-8 text",
                              hint="rename the file or folder") from None


def _replaced(key: str, by: Mapping[str, Any]) -> bool:
    """Whether merging `by` over a layer replaces what that layer has at `key`."""
    here: Any = by
    for name in key.split("."):
        if not isinstance(here, dict):
            return True
        if name not in here:
            return False
        here = here[name]
    return True
