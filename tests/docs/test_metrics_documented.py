"""What the docs list is what the code logs, takes and reports: metrics of a real run, settings of the config classes."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from docs import settings
from tutelage.base.config import leaves
from tutelage.cli.serve import serve
from tutelage.cli.verbs import configured
from tutelage.serve.metrics import METRICS

DOCS = Path(__file__).parents[2] / "docs"
LOGGING = ("pretrain", "sft", "reward", "ppo")
METRIC = re.compile(r"`((?:train|eval|policy|value|objective|response|time|ptx)/\w+)`")


def listed(page: str, kind: str) -> list[str]:
    """First-column names of the table after `<!-- kind -->`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert f"<!-- {kind} -->" in text, f"{page} has no {kind} table"
    rows = text.split(f"<!-- {kind} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("verb", LOGGING)
def test_every_metric_a_run_logs_is_in_its_pages_table_and_no_other(circle, verb):
    assert sorted(listed(f"{verb}.md", "metrics")) == sorted(circle.metrics(verb))


def test_every_metric_of_the_server_is_in_its_table_and_no_other():
    assert listed("serve.md", "metrics") == list(METRICS)


def test_every_option_of_the_server_is_in_its_table_with_its_default():
    rows = [row for row in (DOCS / "serve.md").read_text(encoding="utf-8").splitlines() if row.startswith("| `--")]
    shown = {row.split("`")[1].split()[0]: row.split("|")[2].strip(" `") for row in rows}
    options = {option.opts[0]: option.to_info_dict()["default"] for option in serve.params if isinstance(option, click.Option)}
    assert shown == {name: str(options[name]).lower() for name in options if name not in ("--json", "-q", "-v")}


def test_no_page_names_a_metric_that_nothing_logs(circle):
    logged = {name for verb in LOGGING for name in circle.metrics(verb)}
    for page in sorted(DOCS.glob("*.md")):
        assert set(METRIC.findall(page.read_text(encoding="utf-8"))) <= logged, page.name


@pytest.mark.parametrize("verb", ["pretrain", "sft", "sample", "reward", "ppo", "evaluate"])
def test_every_key_of_a_stages_result_is_explained(circle, verb):
    own = {name for name in circle.results[verb] if name not in ("path", "verb", "seconds")}
    assert sorted(listed(f"{verb}.md", "result")) == sorted(own)


def test_every_number_of_the_evaluation_is_explained(circle):
    report = circle.report()
    names = {key for model in report["models"].values() for key in model if not key.endswith("_ci")}
    assert sorted(listed("evaluate.md", "models")) == sorted(names)
    points = {key for point in report["frontier"] for key in point if not key.endswith("_ci")}
    assert sorted(listed("evaluate.md", "frontier")) == sorted(points)


def test_every_number_of_the_reward_report_is_explained(circle):
    reward = circle.report()["reward_model"]
    found = set(reward) | {f"labels.{key}" for key in reward["labels"]}
    assert sorted(listed("reward.md", "report")) == sorted(found - {"path", "labels"})


@pytest.mark.parametrize("page", [p.name for p in sorted(DOCS.glob("*.md"))])
def test_the_settings_tables_are_up_to_date(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text == settings.rewrite(text), "run: python docs/settings.py"


@pytest.mark.parametrize("verb", [*configured(), "shared"])
def test_every_verb_has_a_table_of_settings(verb):
    assert sum(page.read_text(encoding="utf-8").count(f"<!-- settings: {verb} -->") for page in DOCS.glob("*.md")) == 1


@pytest.mark.parametrize("verb", configured())
def test_every_setting_of_a_verb_is_in_its_table_or_the_shared_one_and_is_explained(verb):
    rows = {row.split("`")[1]: row for name in (verb, "shared") for row in settings.table(name).splitlines()[2:]}
    assert [key for key, row in rows.items() if not row.rstrip(" |").split("|")[3:]] == []
    properties = settings.config_of(verb).model_json_schema()       # pydantic's own list of the keys, walked without our code
    assert set(schema_keys(properties, properties)) <= set(rows) | {"data.sources.N"}


def schema_keys(schema: dict, root: dict, prefix: str = ""):
    """Dotted keys of a JSON schema, sections opened; entries of a list or mapping of sections are not."""
    for name, part in schema["properties"].items():
        target = part.get("$ref") or (part.get("allOf") or [{}])[0].get("$ref")
        if target:
            yield from schema_keys(root["$defs"][target.rsplit("/", 1)[1]], root, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_shown_default_is_the_one_a_config_gets():
    given = settings.config_of("ppo").model_validate({"model": {"policy": "p"}, "data": {"files": ["f"]}})
    rows = {row.split("`")[1]: row.split("|")[2].strip() for row in settings.table("ppo").splitlines()[2:]}
    for key, value in leaves(given.model_dump(mode="json")):
        if key in rows and rows[key] != "required":
            assert rows[key] == settings._shown(value), key
