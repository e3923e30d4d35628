"""The embedded world as work for people: prompts, answers of varied care, tasks of every kind, guidelines and practice with reasons."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
from sqlalchemy import Connection

from tutelage.demo.panel import LABELERS
from tutelage.demo.people import choose, write_answer
from tutelage.demo.prompts import Question, questions
from tutelage.feedback.content import add_labeler, add_prompt, add_response, add_task, set_setting
from tutelage.feedback.shares import set_shares

COUNTS = {"comparison": 120, "ranking": 40, "label": 40, "rating": 20, "critique": 8, "edit": 8, "demonstration": 8}
"""Tasks of each kind, beside the three ways to write a prompt."""
ANSWERS = {"comparison": 2, "ranking": 4, "label": 1, "rating": 1, "critique": 1, "edit": 1, "demonstration": 0}
OVERLAP = {"comparison": 3, "ranking": 3, "label": 2}
"""People wanted for a task; 1 where not given."""
DEMO = "demo"


def fill(conn: Connection, seed: int, now: float) -> dict[str, int]:
    """Put the demo's tasks and its panel into an empty store. Returns how many of each kind."""
    texts = tomllib.loads((resources.files("tutelage.demo") / "data" / "studio.toml").read_text(encoding="utf-8"))
    set_setting(conn, "guidelines", {"version": "1", "text": texts["guidelines"].strip()})
    set_shares(conn, kind_weights={"prompt": 0.3, "demonstration": 0.4, "critique": 0.3, "edit": 0.3})
    for one in LABELERS:
        add_labeler(conn, name=one.name, now=now, group=one.group, screening={"state": "passed"})
    for row in texts["practice"]:
        _practice(conn, row, now)
    for style, question in texts["prompts"].items():
        add_task(conn, kind="prompt", now=now, overlap=3, extra={"style": style, "question": question})
    drawn = _draw(seed)
    for kind, count in COUNTS.items():
        for _ in range(count):
            _task(conn, kind, *next(drawn), now)
    return COUNTS | {"prompt": len(texts["prompts"])}


def _draw(seed: int) -> Iterator[tuple[Question, np.random.Generator]]:
    """Training questions, none twice, in an order of the seed."""
    rng = np.random.default_rng([seed, 7])
    chosen = [question for question in questions() if question.split == "train"]
    for index in rng.permutation(len(chosen)):
        yield chosen[index], rng


def _task(conn: Connection, kind: str, question: Question, rng: np.random.Generator, now: float) -> None:
    prompt_id = add_prompt(conn, content=[{"role": "user", "content": question.text}], source=DEMO, now=now, extra={"topic": question.kind})
    answers: set[str] = set()
    while len(answers) < ANSWERS[kind]:
        answers.add(write_answer(rng, question.item, choose(rng)))
    ids = [add_response(conn, prompt_id=prompt_id, text=text, now=now, model="the demo's crowd") for text in sorted(answers)]
    add_task(conn, kind=kind, now=now, prompt_id=prompt_id, response_ids=ids, overlap=OVERLAP.get(kind, 1), batch=DEMO)


def _practice(conn: Connection, row: dict[str, Any], now: float) -> None:
    prompt_id = add_prompt(conn, content=[{"role": "user", "content": row["prompt"]}], source=DEMO, now=now)
    ids = [add_response(conn, prompt_id=prompt_id, text=text, now=now, model="the guidelines") for text in row["answers"]]
    add_task(conn, kind=row["kind"], now=now, prompt_id=prompt_id, response_ids=ids, purpose="practice",
             expected=row["expected"] | {"reasons": row["reasons"].strip()})
