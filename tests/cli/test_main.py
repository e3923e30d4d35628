"""The front door: forms, exit codes, one-line errors, one JSON object."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.cli.main import main
from tutelage.cli.output import as_called, print_result
from tutelage.cli.verbs import RECIPES, Recipe

TOY = Recipe("A toy.", "tests.cli.toy", "ToyConfig", "train_toy")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line with a toy recipe in the table; returns (exit code, stdout, stderr)."""
    monkeypatch.setitem(RECIPES, "toy", TOY)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    yield call
    signal.signal(signal.SIGTERM, before)


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env, cwd=ROOT)


def test_help_lists_every_verb_and_loads_nothing_heavy():
    code = ("import sys\nfrom tutelage.cli.main import main\ntry: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
            "heavy = {'torch', 'transformers', 'pydantic', 'rich', 'numpy'} & set(sys.modules)\nassert not heavy, heavy")
    done = python(code)
    assert done.returncode == 0, done.stderr
    for verb in ("run", "pretrain", "sft", "sample", "reward", "ppo", "evaluate", "demo", "config", "doctor"):
        assert f"\n  {verb} " in done.stdout


def test_help_costs_little():
    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = spent()
    python("from tutelage.cli.main import main; main(['--help'])")
    assert spent() - before < 2                                      # seconds of processor; 0.1 alone


def test_flags_and_overrides_reach_the_recipe(run, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("name: from file\noptim:\n  learning_rate: 2e-3\n")
    code, out, err = run("toy", str(config), "optim.learning_rate=4e-3", "--seed", "7", "--run-dir", "[b] runs", "--resume")
    assert code == 0 and err == ""
    assert out.splitlines() == ["chatter of a library", "path: [b] runs", "score: 0.1235", "loss: null", "name: from file",
                                "resume: true", "seed: 7", "rate: 0.004", "next: tutelage chat runs/toy"]


def test_a_seed_of_zero_wins_over_the_file_like_any_other(run, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("seed: 3\n")
    assert "seed: 0" in run("toy", str(config), "--seed", "0")[1].splitlines()


@pytest.mark.parametrize("name", ["r\u00fcns \U0001f600", "a\nb", "it's \"q\"", "# a: b", "007", "null", "{a", "del\x7f"])
def test_a_folder_may_have_any_name_that_is_text(run, name):
    assert f"path: {name}\n" in run("toy", "--run-dir", name)[1]


def test_a_folder_whose_name_is_not_text_is_named(run):
    for arguments in (["--run-dir", os.fsdecode(b"bad\xff")], ["name=" + os.fsdecode(b"bad\xff")]):
        code, out, err = run("toy", *arguments)
        assert code == 2 and "'bad\\udcff' is not UTF-8 text" in err and "hint:  rename" in err


def test_json_is_one_object_and_nothing_else_on_stdout(run):
    code, out, err = run("toy", "--json")
    assert code == 0
    assert json.loads(out) == {"path": "runs/toy", "score": 0.123456, "loss": None, "name": "toy", "resume": False, "seed": 0,
                               "rate": 0.001, "next": "tutelage chat runs/toy"}
    assert err == "chatter of a library\n"


SETTINGS = "`tutelage config show VERB` lists a verb's settings, `tutelage config schema VERB` says what each may be"


@pytest.mark.parametrize(("arguments", "code", "message", "hint"), [
    (["name=gate"], 3, "the gate said no", "train longer"),
    (["name=stop"], 130, "interrupted", None),
    (["name=bug"], 1, "unexpected ValueError: index out of range (bug; rerun with -v for the traceback)", None),
    (["nam=x"], 2, "command line: nam: unknown key (did you mean name?)", SETTINGS),
    (["seed=x"], 2, "command line: seed: should be a valid integer, got 'x'", SETTINGS),
    (["--seed", "-1"], 2, "command line: seed: should be greater than or equal to 0, got -1", SETTINGS),
    (["seed=9223372036854775808"], 2,
     "command line: seed: should be less than or equal to 9223372036854775807, got 9223372036854775808", SETTINGS),
    (["nowhere.yaml"], 2, "nowhere.yaml: no such file", "give the path of a YAML or TOML file, or leave it out to use the defaults"),
    (["a.yaml", "b.yaml"], 2, "command line: 'b.yaml' is not of the form section.key=value, and 'a.yaml' is already the config file",
     "one config file at most; it may name a parent with include:"),
    (["--dry-rum"], 2, "no flag --dry-rum (did you mean --dry-run?)", "see tutelage toy --help"),
])
def test_failures_are_one_line_with_their_exit_code(run, arguments, code, message, hint):
    found, out, err = run("toy", *arguments)
    assert found == code
    lines = [line for line in err.splitlines() if line]  # click leaves the terminal's ^C a line of its own
    assert lines == [f"error: {message}"] + ([f"hint:  {hint}"] if hint else [])
    found, out, _ = run("toy", *arguments, "--json")
    assert (found, json.loads(out)) == (code, {"error": message, "hint": hint, "exit_code": code})


@pytest.mark.parametrize("arguments", [("data", "check", "a.jsonl"), ("data", "convert", "a.jsonl", "--to", "text", "--out", "b.jsonl"),
                                       ("prove", "ppo")])
def test_the_traceback_that_a_bug_promises_comes_with_minus_v(run, monkeypatch, arguments):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("index out of range")

    for name in ("text.check.check", "text.convert.convert", "proofs.check.prove"):
        monkeypatch.setattr(f"tutelage.{name}", broken)
    assert "rerun with -v for the traceback" in run(*arguments)[2]
    code, _, err = run(*arguments, "-v")
    assert code == 1 and "Traceback" in err and "in broken" in err


@pytest.mark.parametrize("verb", [("demo",), ("prove", "ppo"), ("chat", "runs")])
def test_an_impossible_seed_is_a_wrong_command_not_a_bug(run, verb):
    code, _, err = run(*verb, "--seed", "-1")
    assert code == 2 and "-1 is not in the range" in err and "bug" not in err


def test_every_fault_of_a_config_is_a_line(run):
    code, _, err = run("toy", "seed=x", "nam=y")
    assert code == 2 and [line[:6] for line in err.splitlines()] == ["error:", "error:", "hint: "]


def test_a_full_disk_is_told_as_such(run):
    code, _, err = run("toy", "name=full")
    assert code == 1 and err.startswith("error: no room on the disk for ") and "hint:  free some space" in err


def test_what_the_machine_refuses_is_named_with_its_path(run):
    code, _, err = run("toy", "name=denied")
    assert (code, err) == (1, "error: /etc/shadow: Permission denied\nhint:  check this path, its permissions and the disk\n")


def test_the_traceback_comes_with_v(run):
    assert "Traceback" not in run("toy", "name=bug")[2]
    assert "Traceback" in run("toy", "name=bug", "-v")[2]


@pytest.mark.parametrize(("typed", "answer"), [
    (["toi"], "error: no verb 'toi' (did you mean toy?)"), (["config", "shw"], "error: no verb 'shw' (did you mean show?)"),
    (["--versio"], "error: no flag --versio (did you mean --version?)"), (["config"], "error: a verb is missing"),
    (["config", "show", "tooy"], "error: no settings for a verb 'tooy' (did you mean toy?)"),
])
def test_a_mistyped_word_is_answered_with_the_nearest(run, typed, answer):
    code, out, err = run(*typed)
    assert (code, out) == (2, "") and err.splitlines()[0] == answer


def test_dry_run_prints_the_config_with_origins_and_the_preview(run, monkeypatch):
    monkeypatch.setenv("TUTELAGE_OPTIM__LEARNING_RATE", "0.5")
    code, out, _ = run("toy", "name=x", "--dry-run")
    assert code == 0 and "chatter" not in out
    config, data, devices, forecast = out.split("\n\n")
    lines = [line.split() for line in config.splitlines()]
    assert lines[0] == ["config"] and ["name:", "x", "#", "command", "line"] in lines and ["seed:", "0"] in lines
    assert ["optim.learning_rate:", "0.5", "#", "environment"] in lines
    assert data == "data\n  layout: text\n  samples:\n    - one\n      two\n    - three"
    assert (devices, forecast) == ("devices\n  device: cpu", "forecast\n  seconds: 1.5\n  memory: null\n")
    shown = json.loads(run("toy", "name=x", "--dry-run", "--json")[1])
    assert (shown["config"]["name"], shown["origins"]["name"]) == ("x", "command line")
    assert shown["forecast"] == {"seconds": 1.5, "memory": None}


def test_config_show_and_schema(run):
    _, out, _ = run("config", "show", "toy", "name=x")
    assert "name: x" in out and "# command line" in out
    assert json.loads(run("config", "show", "toy", "name=x", "--json")[1])["origins"]["seed"] == "default"
    schema = json.loads(run("config", "schema", "toy")[1])
    assert schema["$defs"]["ToyOptim"]["properties"]["learning_rate"]["description"] == "Step size."


def test_sigterm_lets_the_recipe_save_and_ends_with_143():
    code = ("from tests.cli.test_main import RECIPES, TOY, main\nRECIPES['toy'] = TOY\nmain(['toy', 'name=wait'])")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=20)[1] == "saved\nerror: terminated\n"
    assert process.returncode == 143


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_keep_coming_while_the_process_exits_add_nothing(signum):
    code = (f"import atexit, os, signal, sys\nimport tutelage.cli.main as cli\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"atexit.register(os.kill, os.getpid(), {int(signum)})\nsys.argv, say = ['tutelage', 'nothing'], cli.print_failure\n"
            f"cli.print_failure = lambda *words: (os.kill(os.getpid(), {int(signum)}), say(*words))\ncli.main()")
    done = python(code)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) <= 2, done.stderr


def test_a_reader_that_stops_early_is_no_error():
    code = "from tutelage.cli.main import main; main(['--help'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate(timeout=20)[1] == b""


@pytest.mark.parametrize(("stdout", "words"), [("> /dev/full", "No space left on device"), (">&-", ""), ("2>&-", ""), ("2> /dev/full", "")])
@pytest.mark.parametrize("arguments", ["--help", "config show nothing --json"])
def test_output_that_cannot_be_written_is_no_bug(stdout, words, arguments):
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full, a disk that is always full, is Linux's own")
    done = subprocess.run(f"{sys.executable} -m tutelage.cli.main {arguments} {stdout}", shell=True, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": "src"}, cwd=ROOT)
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr and "ignored" not in done.stderr
    if "nothing" in arguments:
        assert done.returncode == 2
    else:
        assert done.returncode == (1 if words else 0) and words in done.stderr


def test_a_terminal_without_unicode_still_shows_the_rest():
    done = python("from tutelage.cli.main import main; print('x', flush=True); main(['demo', 'gold', 'a', 'b', '--\u27e6'])",
                  PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and "no flag --\\u27e6" in done.stderr
    code = ("from tests.cli.test_main import RECIPES, TOY, main\nRECIPES['toy'] = TOY\nmain(['toy', 'name=\u27e6a\u27e7'])")
    done = python(code, PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "name: ?a?" in done.stdout


def test_torch_threads_spin_briefly_unless_the_user_says_otherwise():
    code = "from tutelage.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: import torch"
    for said, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "77"}, "77")):
        told = python(code, OMP_DISPLAY_ENV="verbose", **said).stderr
        if "GOMP" not in told:
            pytest.skip("this torch does not thread with libgomp (macOS, or a build with Intel's), which the setting is for")
        assert f"GOMP_SPINCOUNT = '{expected}'" in told


def test_config_show_without_arguments_lists_every_setting_and_names_those_that_must_be_given(run):
    code, out, _ = run("config", "show", "ppo")
    assert code == 0
    lines = {line.split(":")[0].strip(): line for line in out.splitlines()}
    assert lines["model.policy"].endswith("# required") and not lines["model.reward"].endswith("# required")
    assert lines["algo.gae_lambda"].split() == ["algo.gae_lambda:", "0.95"]
    shown = json.loads(run("config", "show", "ppo", "--json")[1])
    assert shown["config"]["model"]["policy"] is None and shown["origins"]["model.policy"] == "required"
    assert shown["origins"]["optim.eps"] == "default"


def test_a_command_to_type_next_carries_the_path_it_was_called_by_when_it_is_not_on_the_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [".venv/bin/tutelage", "demo"])
    assert as_called("tutelage chat runs/tutelage") == ".venv/bin/tutelage chat runs/tutelage"
    monkeypatch.setattr(sys, "argv", ["-m", "demo"])
    assert as_called("tutelage chat runs/demo") == "tutelage chat runs/demo"


def test_a_result_gives_an_estimate_one_line_and_leaves_lists_of_rows_to_json(capsys):
    result = {"pairs": {"accuracy": {"mean": 0.7349, "low": 0.717, "high": 0.75381, "n": 245}, "bins": [{"low": 0.1}], "ties": 0},
              "gap": {"mean": 1.0, "low": None, "high": 2.5}, "notes": ["a", "b"], "empty": {}}
    print_result(result, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["pairs.accuracy: 0.7349 (0.717 to 0.7538, n 245)", "pairs.ties: 0",
                                                    "gap: 1 (null to 2.5)", 'notes: ["a", "b"]', "empty: {}"]
