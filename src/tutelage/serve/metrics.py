"""Counters and gauges in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Mapping

METRICS = {
    "tutelage_info": ("gauge", "Always 1; the labels say what is served: name, kind and sha256 of each model."),
    "tutelage_requests_total": ("counter", "Requests answered, by path and HTTP status."),
    "tutelage_request_seconds_total": ("counter", "Time from request to the end of its answer, summed, by path."),
    "tutelage_first_token_seconds_total": ("counter", "Time from request to the first token of its answers, summed, by model."),
    "tutelage_answers_total": ("counter", "Answers begun, by model."),
    "tutelage_answers_left_total": ("counter", "Answers that were stopped because nobody read them any more, by model."),
    "tutelage_prompt_tokens_total": ("counter", "Tokens read, by model; a prompt of several answers counts once."),
    "tutelage_completion_tokens_total": ("counter", "Tokens drawn, by model."),
    "tutelage_steps_total": ("counter", "Tokens drawn together, by model: completion tokens / steps is how many answers share a step."),
    "tutelage_scores_total": ("counter", "Responses scored, by model."),
    "tutelage_rows": ("gauge", "Answers being written now, by model."),
    "tutelage_waiting": ("gauge", "Requests that wait for their turn."),
}
"""Name -> (type, what it is)."""


class Metrics:
    """Numbers by name and labels; any thread may count."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()

    def add(self, name: str, value: float = 1, /, **labels: str) -> None:
        """Count up."""
        with self._lock:
            key = name, tuple(labels.items())
            self._values[key] = self._values.get(key, 0) + value

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Say how it is now."""
        with self._lock:
            self._values[name, tuple(labels.items())] = value

    def render(self) -> str:
        """The whole page."""
        with self._lock:
            values = sorted(self._values.items())
        lines = []
        for name, (kind, what) in METRICS.items():
            found = [(dict(labels), value) for (of, labels), value in values if of == name]
            if found:
                lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
                lines += [f"{name}{_labels(labels)} {value:.12g}" for labels, value in found]
        return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    escaped = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return "{" + ",".join(escaped) + "}" if labels else ""


_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
