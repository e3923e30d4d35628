import functools
import re
import sys
from pathlib import Path

import pytest
import torch

from tests.rewards.conftest import PROMPTS
from tutelage.base.errors import AuditError, ConfigError
from tutelage.base.permission import allow_code
from tutelage.rewards.functions import FunctionReward, load_function, source_of


def words(prompts, completions):
    return [len(c.split()) for c in completions]


def test_a_function_sees_the_last_question_and_the_answer_as_a_person_does(tokenizer, rollout):
    seen = []
    reward = FunctionReward(lambda prompts, texts: seen.append((prompts, texts)) or [1, 2.5, 0], tokenizer)
    assert reward(PROMPTS, rollout).tolist() == [1.0, 2.5, 0.0]
    assert seen == [(["where is cat?", "where is owl 3?", "where is dog?"], ["in the barn", "in the pond with cat", "in the"])]


@pytest.mark.parametrize("scores", [[3, 5, 2], (3.0, 5.0, 2.0), torch.tensor([3, 5, 2]), torch.tensor([3.0, 5.0, 2.0]).numpy(),
                                    iter([3, 5, 2])], ids=lambda s: type(s).__name__)
def test_numbers_come_in_any_row_of_numbers(tokenizer, rollout, scores):
    assert FunctionReward(lambda p, c: scores, tokenizer)(PROMPTS, rollout).tolist() == [3.0, 5.0, 2.0]


def fails(prompts, completions):
    raise KeyError("no such\n word")


def leaves(prompts, completions):
    sys.exit(0)


def empties(prompts, completions):
    completions.clear()
    return []


@pytest.mark.parametrize(("function", "says"), [
    (lambda p, c: [1.0, float("nan"), 2.0], "function .* is nan for 1 of 3 answers, first 'in the pond with cat' to 'user: where is"),
    (lambda p, c: [float("-inf")] * 3, "is -inf for 3 of 3 answers"), (lambda p, c: [1e39] * 3, "is inf for 3 of 3 answers"),
    (lambda p, c: [1.0], "returned 1 scores for 3 answers"), (empties, "returned 0 scores for 3 answers"),
    (lambda p, c: None, "did not return numbers: TypeError"), (lambda p, c: "123", "returned a str, not a list"),
    (lambda p, c: [1, None, 2], "did not return numbers"), (lambda p, c: [10**400] * 3, "did not return numbers: OverflowError"),
    (lambda p, c: torch.zeros(3, 2), "did not return numbers"),
    (fails, r"function fails raised KeyError: 'no such\\n word' \(test_functions.py:\d+\)$"), (leaves, r"leaves raised SystemExit: 0"),
])
def test_what_is_no_finite_number_per_answer_is_told_in_one_line(tokenizer, rollout, function, says):
    with pytest.raises(AuditError, match=says) as caught:
        FunctionReward(function, tokenizer)(PROMPTS, rollout)
    assert "\n" not in str(caught.value) and caught.value.hint


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my rewards.py"
    path.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nNUMBER = 3\n"
                    "def length(prompts, completions):\n    return [len(c) for c in completions]\n"
                    "def one(prompts):\n    return []\n")
    return path


def test_a_config_may_not_run_code_unless_the_person_said_so(file):
    for spec in (f"{file}:length", "os:system"):
        with pytest.raises(ConfigError, match="may not run by itself") as caught:
            load_function(spec)
        assert caught.value.exit_code == 2 and "--allow-code" in caught.value.hint
    assert not file.with_name("ran").exists()
    with allow_code():
        pass
    with pytest.raises(ConfigError):                                # permission ends with its block
        load_function(f"{file}:length")


def test_a_function_is_found_in_a_file_or_a_module(file, tmp_path, monkeypatch):
    with allow_code():
        function = load_function(f"{file}:length")
        assert function([""], ["abc"]) == [3] and source_of(function) == file
        (tmp_path / "rewards_elsewhere.py").write_text("def two(p, c): return [2.0] * len(c)")
        monkeypatch.syspath_prepend(tmp_path)
        assert load_function("rewards_elsewhere:two")(["", ""], ["", ""]) == [2.0, 2.0]


def test_a_function_without_a_file_has_the_same_name_in_the_next_process():
    # A notebook's cells are no files; an address in the name would make every resumed run one of "other inputs".
    def cell():
        scope = {"__name__": "__main__"}
        exec("def score(prompts, completions):\n    return [0.0] * len(completions)", scope)
        return scope["score"]

    one, other = cell(), cell()
    assert one is not other and source_of(one) == source_of(other) == "__main__.score"
    assert source_of(len) == "builtins.len"


def test_a_callable_object_and_a_partial_are_traced_to_the_file_they_were_written_in():
    class Length:
        def __call__(self, prompts, completions):
            return [len(c) for c in completions]

    assert source_of(Length()) == source_of(functools.partial(words)) == Path(__file__)


@pytest.mark.parametrize(("spec", "says"), [
    ("length", "not of the form"), ("{file}", "not of the form"), (":x", "not of the form"), ("{file}:not a name", "not of the form"),
    ("{file}:lenght", r"has no function lenght \(did you mean length\?\)"), ("{file}:NUMBER", "has no function NUMBER"),
    ("{file}:one", "cannot be called with .prompts, completions."), ("{dir}/none.py:f", "cannot import .*no such file"),
    ("no_such_module_here:f", "cannot import no_such_module_here: ModuleNotFoundError"),
    ("{dir}/broken.py:f", r"cannot import .*SyntaxError"), ("{dir}/quits.py:f", r"SystemExit: 3 \(quits.py:1\)"),
    ("{dir}/fails.py:f", r"ZeroDivisionError: division by zero \(fails.py:2\)"),
])
def test_a_function_that_cannot_be_had_is_told_in_one_line(file, tmp_path, spec, says):
    for name, text in {"broken": "def f(:\n", "quits": "raise SystemExit(3)", "fails": "\n1 / 0"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    with allow_code(), pytest.raises(ConfigError, match=says) as caught:
        load_function(spec.format(file=file, dir=tmp_path))
    assert "\n" not in str(caught.value) and not re.search(r"importlib|Traceback", str(caught.value))
