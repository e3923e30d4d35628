"""What README and docs tell people to type works: commands parse, files and headings that links name exist, quoted code is the code."""

from __future__ import annotations

import json
import re
import shlex
from importlib import resources
from pathlib import Path

import click
import pytest

from docs import outputs
from docs.settings import config_of
from tutelage.base.config import dump_config, load_config
from tutelage.cli.main import cli
from tutelage.cli.training import split_arguments
from tutelage.cli.verbs import COMMANDS, FLAGGED, RECIPES
from tutelage.recipes.pipeline import PipelineConfig, Verb, plan, standard_verbs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of a shell block that starts with tutelage; a backslash joins lines."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "console", ""):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line.removeprefix("$ ").strip()) for line in lines if re.match(r"(\$ )?tutelage ", line)]
    return [(page, line) for page, line in found if not re.match(r"tutelage [A-Z]", line)]        # the form itself: tutelage VERB …


def check_command(line: str, tmp_path: Path) -> None:
    """Parse a command as the front door would, up to the resolved config. Raises what it would raise."""
    command, arguments = cli, shlex.split(line, comments=True)[1:]
    while isinstance(command, click.Group) and not (command.invoke_without_command and not {*arguments[:1]} & command.commands.keys()):
        ctx = click.Context(command)
        _, found, arguments = command.resolve_command(ctx, arguments)
        assert found is not None
        command = found
    verb = command.name or ""
    parsed = command.make_context(verb, list(arguments)).params
    if verb in RECIPES:
        path, overrides = split_arguments(parsed["arguments"])
        verb = next((flag for of, flag in FLAGGED if of == verb and parsed[flag]), verb)
        check_config(config_of(verb), path, overrides, tmp_path)
    elif verb == "show":
        config_of(parsed["verb"])
    elif verb == "demo":
        demo_plan(parsed.get("overrides", ()))


def check_config(cls: type, path: Path | None, overrides: list[str], tmp_path: Path) -> None:
    """Load it, with the demo's stages and the pipeline on init.md standing in for the files that a run of the demo and init leave."""
    if path is not None and path.parts[:1] == ("aligned",):
        (tmp_path / "align.yaml").write_text(blocks(ROOT / "docs" / "init.md", "yaml")[0])
        path = tmp_path / "align.yaml"
    if path is not None and path.parts[:1] == ("runs",):
        text = dump_config(demo_plan(())[path.parts[2] if path.parts[1] == "demo" else path.parts[1]][1])
        (tmp_path / "config.yaml").write_text(text)
        path = tmp_path / "config.yaml"
    cfg, _ = load_config(cls, ROOT / path if path is not None and not path.is_absolute() else path, overrides, env={})
    if isinstance(cfg, PipelineConfig):
        plan(cfg, standard_verbs(), tmp_path)


def demo_plan(overrides: tuple[str, ...]) -> dict:
    from tutelage.cli.demo_stages import JudgeConfig, WorldConfig, judge, make_world

    verbs = standard_verbs() | {"world": Verb(WorldConfig, make_world), "judge": Verb(JudgeConfig, judge)}
    with resources.as_file(resources.files("tutelage.demo") / "circle.yaml") as file:
        return plan(load_config(PipelineConfig, file, list(overrides), env={})[0], verbs, Path("runs/demo"))


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value[:60])
def test_a_command_shown_to_people_parses(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_command(line, tmp_path)


def test_the_pages_show_commands_of_every_stage():
    shown = {line.split()[1] for _, line in commands()}
    assert {*RECIPES, "chat", "config"} <= shown


@pytest.mark.parametrize("line", [
    "tutelage pppo", "tutelage ppo --dryrun", "tutelage sft model.policy=a 'data.files=[f]' optim.lr=1", "tutelage sft data.files=[f]",
    "tutelage chat runs/demo --temprature 1", "tutelage config shw ppo", "tutelage demo --quik",
    "tutelage ppo runs/demo/ppo/config.yaml algo.epoch=2", "tutelage demo --set stages.ppo.config.algo.epoch=2"])
def test_the_check_sees_a_wrong_command(line, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(Exception, match="no verb|no flag|unknown key|did you mean|required|missing|No such"):
        check_command(line, tmp_path)


def test_the_table_of_verbs_is_the_list_of_verbs():
    table = re.findall(r"^\| `tutelage (\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(table) == sorted([*RECIPES, *COMMANDS])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if heading:
            assert heading in {anchor(line) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")}, target


def anchor(heading: str) -> str:
    """The name a Markdown heading is linked by."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


def test_the_code_quoted_from_ppo_is_in_ppo():
    def code(text: str) -> str:
        return re.sub(r"\s", "", re.sub(r"  #.*", "", text))         # wherever its lines are broken

    source = code((ROOT / "src/tutelage/recipes/ppo.py").read_text(encoding="utf-8"))
    quoted = [text for text in blocks(ROOT / "docs/ppo.md", "python") if not text.startswith("def ")]       # a reader's own function
    assert len(quoted) == 8 and [text for text in quoted if code(text) not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_pipeline_shown_on_a_page_plans(page, tmp_path):
    for block in blocks(page, "yaml"):
        if "stages:" not in block:
            continue
        file = tmp_path / "pipeline.yaml"
        file.write_text(block, encoding="utf-8")
        cfg, _ = load_config(PipelineConfig, file, env={})
        assert plan(cfg, standard_verbs(), tmp_path)


def test_every_place_for_a_real_runs_output_is_filled():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    places = {name: body for text in texts for name, body in re.findall(r"<!-- output: (\w+) -->\n(.*?)<!-- end -->", text, re.S)}
    assert set(places) == {"pretrain", "sft", "sample", "reward", "ppo", "evaluate", "masks", "row", "demo"}
    assert [name for name, body in places.items() if len(body) < 40] == [], "run: python docs/outputs.py runs/demo --machine …"


def test_the_outputs_can_be_made_again_from_any_run_of_the_circle(circle):
    root = circle.runs["world"].parent
    for name in ("pretrain", "sft", "reward", "ppo"):
        assert "this stage took" in (shown := outputs.output_of(name, root, "a laptop")) and "| step |" in shown and "seconds: " in shown
    assert "win_rate_vs_sft" in outputs.output_of("evaluate", root, "a laptop") and "⟦" in outputs.output_of("masks", root, "")
    assert json.loads(outputs.output_of("row", root, "").strip("`json\n"))["responses"][0]["sampling"]["temperature"] == 1.0
    assert "| together |" in outputs.output_of("demo", root, "a laptop")
