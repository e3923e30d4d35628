"""What of an answer may be shown while it is still being written."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tutelage.serve.answers import Answer
from tutelage.serve.metrics import Metrics

END = 0


class Letters:
    """A tokenizer of one character per id, 0 the end."""

    def decode(self, tokens, **_):
        return "".join(chr(t) for t in tokens if t != END)


def pieces(text: str, stops: list[str], *, cut: bool = False) -> tuple[list[str], Answer]:
    """Push a text letter by letter, then its end, until the answer is over."""
    answer, shown = Answer(Letters(), stops, [END]), []
    tokens = [ord(c) for c in text] + ([] if cut else [END])
    for i, token in enumerate(tokens):
        last = i == len(tokens) - 1
        shown.append(answer.push(token, -1.0, None if not last else "length" if cut else "stop"))
        if answer.finish:
            break
    return shown, answer


def until_stop(text: str, stops: list[str]) -> str:
    """The text before the stop string that is whole first; reading one character more at a time, without any hold-back."""
    for end in range(len(text) + 1):
        whole = [stop for stop in stops if text[:end].endswith(stop)]
        if whole:
            return text[: end - max(map(len, whole))]
    return text


@given(st.text("ab \n", max_size=12), st.lists(st.text("ab \n", min_size=1, max_size=3), max_size=3))
@example("ab", ["b", "ab"])
@example(" a", [" "])
def test_the_pieces_are_the_stripped_text_up_to_the_first_stop(text, stops):
    shown, answer = pieces(text, stops)
    assert "".join(shown) == until_stop(text, stops).strip() == answer.text
    assert answer.finish == "stop"


def test_nothing_is_shown_that_may_yet_become_a_stop_string_or_space_at_the_end():
    shown, _ = pieces("a  STO PSTOP b", ["STOP"])
    assert shown[:11] == ["a", "", "", "", "", "", "  STO", " P", "", "", ""]
    shown, answer = pieces("ST", ["STOP"], cut=True)
    assert (shown, answer.finish, answer.text) == (["", "ST"], "length", "ST")


def test_tokens_and_logprobs_are_all_those_drawn():
    _, answer = pieces("ab!cd", ["!"])
    assert (answer.tokens, answer.logprobs, answer.text) == ([97, 98, 33], [-1.0] * 3, "ab")


def test_metrics_are_prometheus_text():
    metrics = Metrics()
    metrics.add("tutelage_steps_total", model='a "b"\\\n')
    metrics.add("tutelage_steps_total", 2.0, model='a "b"\\\n')
    metrics.set("tutelage_waiting", 3)
    # The escapes of https://prometheus.io/docs/instrumenting/exposition_formats/
    lines = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    assert lines == [r'tutelage_steps_total{model="a \"b\"\\\n"} 3', "tutelage_waiting 3"]
    assert "# TYPE tutelage_steps_total counter\n" in metrics.render() and metrics.render().endswith("\n")
