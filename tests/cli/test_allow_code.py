"""A config that names Python code runs with --allow-code and not without, alone or as a stage of a pipeline."""

from __future__ import annotations

import json
import signal

import pytest
import yaml

from tests.small import ppo_config
from tutelage.cli.main import main


@pytest.fixture
def call(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def config(small, tmp_path):
    """A PPO config whose reward is a function that leaves a mark when its file runs."""
    code = tmp_path / "mine.py"
    code.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
                    "def length(prompts, completions):\n    print('chatter')\n    return [len(c) for c in completions]\n")
    cfg = ppo_config(small, tmp_path / "run", {"model": {"reward": None}, "algo": {"num_iterations": 1},
                                               "rewards": {"long": {"function": f"{code}:length", "weight": 0.1}}})
    values = cfg.model_dump(mode="json")
    (tmp_path / "ppo.yaml").write_text(yaml.safe_dump(values))
    del values["run_dir"], values["resume"], values["device"]
    stages = {"last": {"verb": "ppo", "config": values}}
    (tmp_path / "pipe.yaml").write_text(yaml.safe_dump({"run_dir": str(tmp_path / "pipe"), "stages": stages}))
    return tmp_path


@pytest.mark.parametrize("start", [("ppo", "ppo.yaml"), ("ppo", "ppo.yaml", "--dry-run"), ("run", "pipe.yaml")], ids=" ".join)
def test_without_the_flag_it_is_one_line_exit_code_2_and_nothing_ran(call, config, start):
    verb, file, *more = start
    code, out, err = call(verb, config / file, *more)
    assert (code, out) == (2, "") and err.count("error:") == 1 and "mine.py:length is Python code" in err and "--allow-code" in err
    assert not (config / "ran").exists() and not (config / "run").exists() and not (config / "pipe").exists()


def test_with_the_flag_it_trains_and_what_the_function_prints_stays_out_of_the_json(call, config):
    code, out, err = call("ppo", config / "ppo.yaml", "--allow-code", "--json")
    assert code == 0 and json.loads(out)["score"] > 0.1 and "chatter" in err and (config / "ran").exists()
    code, out, _ = call("run", config / "pipe.yaml", "--allow-code", "--json")
    assert code == 0 and json.loads(out)["stages"]["last"]["iterations"] == 1


@pytest.mark.parametrize("way", ["file", "environment", "command line"])
def test_a_config_cannot_grant_itself_the_permission(call, config, monkeypatch, way):
    if way == "file":
        (config / "ppo.yaml").write_text((config / "ppo.yaml").read_text() + "allow_code: true\n")
    if way == "environment":
        monkeypatch.setenv("TUTELAGE_ALLOW_CODE", "1")
    code, _, err = call("ppo", config / "ppo.yaml", *(["allow_code=true"] if way == "command line" else []))
    assert code == 2 and ("allow_code: unknown key" in err or "may not run by itself" in err) and not (config / "ran").exists()


def test_verbs_without_code_have_no_such_flag(call, config):
    code, _, err = call("sft", "--allow-code")
    assert code == 2 and "no flag --allow-code" in err
