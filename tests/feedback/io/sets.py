"""How the real sets' rows are read as feedback: folder -> (file, options of import). docs/feedback-files.md shows the same as commands."""

from __future__ import annotations

from typing import Any

SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "pairwise_3annotators": ("pairs", {
        "columns": {"prompt": "prompt", "response_a": "response1", "response_b": "response2", "winner": "votes.*", "labeler": "votes.#"},
        "verdicts": {"0": "tie"}}),
    "convincing_arguments": ("pairs", {
        "columns": {"prompt": "topic", "response_a": "a1", "response_b": "a2", "winner": "votes.*.vote", "labeler": "votes.*.worker",
                    "comment": "votes.*.reason", "item": "id"}}),
    "mtbench_votes": ("votes", {
        "columns": {"prompt": "question {question_id}, turn {turn}", "model_a": "model_a", "model_b": "model_b", "winner": "winner",
                    "labeler": "judge"}}),
    "summary_factuality": ("factuality", {
        "columns": {"prompt": "Is this a factual summary of its article? {summary}", "response": "summary", "model": "system",
                    "label": "votes.*", "labeler": "votes.#"}}),
    "abuse_ratings": ("exchanges", {
        "columns": {"prompt": "{bot}: {turns.0}\n{turns.1}\n{turns.2}", "response": "turns.3", "rating": "ratings.*.rating",
                    "labeler": "ratings.*.annotator"}}),
    "xstest": ("labels", {
        "columns": {"prompt": "prompt", "response": "completion", "model": "model", "verdict": "annotator_*", "labeler": "annotator_#"}}),
    "bbq": ("crowd", {
        "columns": {"prompt": "{context} {question}", "responses": "options", "best": "answer", "labeler": "worker", "batch": "round",
                    "item": "item"}}),
    "qa_feedback": ("questions", {
        "columns": {"prompt": "question", "response_a": "answers.<comparisons.*.0>", "response_b": "answers.<comparisons.*.1>",
                    "winner": "comparisons.*.2"},
        "verdicts": {"0": "tie"}}),
}
