"""What is judged, by whom: labelers, prompts, answers and tasks are added here, and settings and the audit log kept."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, select, update

from ..base.errors import did_you_mean
from ..base.records import prompt_from_json, prompt_to_json
from . import schema
from .errors import ContentError, ErasedError
from .pseudonyms import key_of_store, tombstone
from .sql import dump, load, run

# How many answers a task of each kind shows; a conversation's are made while it runs.
ANSWERS = {"prompt": (0, 0), "demonstration": (0, 0), "conversation": (0, 0), "comparison": (2, 2), "ranking": (2, 9), "rating": (1, 1),
           "label": (1, 1), "critique": (1, 1), "edit": (1, 1)}
NO_PROMPT = ("prompt", "conversation")                              # kinds that can begin from nothing
OWN_PROMPT = ("demonstration", "conversation")                      # kinds in which nothing of the prompt's author is judged
ERASED = "erased"                                                  # in `extra` of a task whose prompt or answers were erased
NO_CONSENT = "this prompt is kept without consent"
_UNHOLDABLE = re.compile("[\0\ud800-\udfff]")
MAX_TEXT = 1_000_000                                                # characters of one text
MAX_DEPTH = 50                                                      # of a document


def holdable(text: str) -> str:
    """A text that both databases can hold: NUL and halves of surrogate pairs become U+FFFD."""
    return _UNHOLDABLE.sub("\ufffd", text)


def clean(document: Any, depth: int = 0) -> Any:
    """Text, or a document of texts, that both databases can hold (`holdable`); nothing else changes.

    Raises: ContentError when a text is longer than MAX_TEXT, lists lie deeper in one another than MAX_DEPTH, or a number is not one that
        JSON can write.
    """
    if depth > MAX_DEPTH:
        raise ContentError(f"a document with more than {MAX_DEPTH} lists or objects in one another", hint="make it flatter")
    if isinstance(document, str):
        if len(document) > MAX_TEXT:
            raise ContentError(f"a text of {len(document):,} characters is too long", hint=f"the store takes up to {MAX_TEXT:,}")
        return holdable(document)
    if isinstance(document, Mapping):
        return {clean(str(key)): clean(value, depth + 1) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [clean(value, depth + 1) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        raise ContentError(f"{document} is not a number that can be stored")
    return document


def add_labeler(conn: Connection, *, name: str, now: float, role: str = "labeler", group: str | None = None, language: str = "en",
                held_out: bool = False, screening: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None,
                pay_per_hour: float | None = None, password_hash: str | None = None) -> int:
    """A person, or a simulated or imported one. Returns their id. Raises ContentError when the name is taken or the role unknown."""
    _one_of("role", role, schema.ROLES)
    name = clean(name).strip()
    if not name:
        raise ContentError("a labeler needs a name")
    row = run(conn, """
        INSERT INTO labelers (name, role, "group", language, held_out, screening, settings, pay_per_hour, password_hash, failed_logins,
                              created_at)
        VALUES (:name, :role, :group, :language, :held_out, :screening, :settings, :pay, :password_hash, 0, :now)
        ON CONFLICT (name) DO NOTHING RETURNING id""",
              name=name, role=role, group=group, language=language, held_out=held_out, screening=dump(dict(screening or {"state": "new"})),
              settings=dump(dict(settings or {})), pay=pay_per_hour, password_hash=password_hash, now=now).fetchone()
    if row is None:
        raise ContentError(f"there is a labeler named {name!r} already", hint="choose another name")
    return int(row[0])


def prompt_hash(content: Any) -> str:
    """sha256 that tells copies of a prompt: of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def add_prompt(conn: Connection, *, content: Any, source: str, now: float, user: str | None = None, language: str = "en",
               split: str = "train", consent: bool = True, warnings: Sequence[str] = (), extra: Mapping[str, Any] | None = None,
               author_id: int | None = None) -> int:
    """A prompt: text, or a list of messages as base.records writes them. Returns its id; a copy's is that of the prompt it copies,
    which then has the warnings of both.

    Raises: ContentError when it is empty or not a prompt, ValueError's words included, or was erased; who writes the
        same words themselves is the author of a new one, and so is who gives them to be used where they are kept without consent.
    """
    _one_of("source", source, schema.SOURCES)
    try:
        content = prompt_to_json(prompt_from_json(clean(content)))
    except ValueError as error:
        raise ContentError(str(error)) from error
    if not content or (isinstance(content, str) and not content.strip()):
        raise ContentError("an empty prompt")
    for warning in warnings:
        if not re.fullmatch(r"[a-z_]+", warning):
            raise ContentError(f"a content warning named {warning!r}", hint="warnings are words such as violence or self_harm")
    digest = prompt_hash(content)
    if author_id is None and erased_prompts(conn, [digest]):
        raise ContentError("this prompt was erased here", hint="take it out of what you bring: what was erased does not come back")
    if author_id is not None or (source == "customer" and consent):
        set_aside(conn, same_words(content))
    elif (kept := _kept_without_consent(conn, content)) is not None:
        return kept
    row = run(conn, """INSERT INTO prompts (hash, content, source, "user", language, split, consent, warnings, extra, author_id, created_at)
                       VALUES (:hash, :content, :source, :user, :language, :split, :consent, :warnings, :extra, :author, :now)
                       ON CONFLICT (hash) DO NOTHING RETURNING id""",
              hash=digest, content=dump(content), source=source, user=user, language=language, split=split, consent=consent,
              warnings=dump(sorted(set(warnings))), extra=dump(clean(extra or {})), author=author_id, now=now).fetchone()
    if row is None:
        row = run(conn, "SELECT id, warnings FROM prompts WHERE hash = :hash", hash=digest).fetchone()
        if not set(warnings) <= set(load(row[1])):
            _warn_of(conn, row[0], sorted({*load(row[1]), *warnings}))
    return int(row[0])


def same_words(content: Any) -> list[str]:
    """Hashes of a prompt and of the same words in the other form: a text, and a user's one message."""
    if isinstance(content, str):
        return [prompt_hash(content), prompt_hash([{"role": "user", "content": content}])]
    alone = len(content) == 1 and content[0].keys() == {"role", "content"} and content[0]["role"] == "user"
    return [prompt_hash(content), *([prompt_hash(content[0]["content"])] if alone else [])]


def set_aside(conn: Connection, hashes: Iterable[str]) -> None:
    """Prompts that are kept without consent make room for the same words of somebody who gives their own: they stay, under another hash."""
    table = schema.prompts
    moved = table.c.hash + "-" + cast(table.c.id, Text)
    conn.execute(update(table).where(table.c.hash.in_(hashes), table.c.consent.is_(False)).values(hash=moved))


def _kept_without_consent(conn: Connection, content: Any) -> int | None:
    """The prompt that holds these words without consent, where none holds them as they are with it."""
    table = schema.prompts
    rows = conn.execute(select(table.c.id, table.c.consent, table.c.hash).where(table.c.hash.in_(same_words(content)))).all()
    if any(row.consent and row.hash == prompt_hash(content) for row in rows):
        return None
    return next((row.id for row in rows if not row.consent), None)


def _warn_of(conn: Connection, prompt_id: int, warnings: Sequence[str]) -> None:
    """Mark a prompt that is there, and the tasks made of it, with all of these."""
    run(conn, "UPDATE prompts SET warnings = :all WHERE id = :id", all=dump(warnings), id=prompt_id)
    run(conn, "UPDATE tasks SET warnings = :all WHERE prompt_id = :id", all=f" {' '.join(warnings)} ", id=prompt_id)


def erased_prompts(conn: Connection, hashes: Iterable[str]) -> set[str]:
    """Those of the hashes that were of prompts which were erased: their own hashes are under the store's key since."""
    if conn.scalar(select(schema.tombstones.c.id).limit(1)) is None:
        return set()
    key = key_of_store(conn)
    kept = {tombstone("prompt", digest, key): digest for digest in hashes}
    ordered = list(kept)
    return {kept[row.hash] for at in range(0, len(ordered), 500) for row in conn.execute(
        select(schema.prompts.c.hash).where(schema.prompts.c.hash.in_(ordered[at:at + 500])))}


def add_response(conn: Connection, *, prompt_id: int, text: str, now: float, model: str | None = None, model_hash: str | None = None,
                 sampling: Mapping[str, Any] | None = None, logprobs: Sequence[float] | None = None, author_id: int | None = None,
                 revises_id: int | None = None) -> int:
    """An answer to a prompt, by a model or a labeler (`author_id`). Returns its id."""
    row = run(conn, """INSERT INTO responses (prompt_id, text, model, model_hash, sampling, logprobs, author_id, revises_id, created_at)
                       VALUES (:prompt, :text, :model, :model_hash, :sampling, :logprobs, :author, :revises, :now) RETURNING id""",
              prompt=prompt_id, text=clean(text), model=model, model_hash=model_hash, sampling=dump(clean(sampling)),
              logprobs=dump(None if logprobs is None else list(logprobs)), author=author_id, revises=revises_id, now=now).fetchone()
    return int(row[0])


def add_task(conn: Connection, *, kind: str, now: float, prompt_id: int | None = None, response_ids: Sequence[int] = (), overlap: int = 1,
             priority: float = 0.0, p_select: float = 1.0, purpose: str = "work", batch: str | None = None,
             expected: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None) -> int:
    """Something to be judged or written by `overlap` people. Returns its id.

    Whoever wrote one of the answers, or the prompt where that tells what its author wanted, will never be given it.
    Raises: ContentError when the answers are not this prompt's, or not as many as the kind shows, and for a prompt without consent.
    """
    _one_of("kind", kind, schema.KINDS)
    _one_of("purpose", purpose, schema.PURPOSES)
    fewest, most = ANSWERS[kind]
    if not fewest <= len(response_ids) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ContentError(f"a {kind} with {len(response_ids)} answers", hint=f"it takes {wanted}")
    if overlap < 1 or not 0 < p_select <= 1:
        raise ContentError(f"overlap {overlap}, p_select {p_select}", hint="overlap is 1 or more; p_select is a probability above 0")
    if prompt_id is None and kind not in NO_PROMPT:
        raise ContentError(f"a {kind} needs a prompt")
    if prompt_id is not None and kind == "prompt":
        raise ContentError("a task to write a prompt has no prompt yet")
    warnings, authors = _of_prompt(conn, kind, prompt_id)
    authors |= _of_responses(conn, prompt_id, response_ids)
    row = run(conn, """INSERT INTO tasks (kind, prompt_id, response_ids, overlap, free, priority, draw, warnings, p_select, purpose, batch,
                                         expected, state, extra, created_at)
                       VALUES (:kind, :prompt, :responses, :overlap, :overlap, :priority, :draw, :warnings, :p_select, :purpose, :batch,
                               :expected, 'open', :extra, :now) RETURNING id""",
              kind=kind, prompt=prompt_id, responses=dump(list(response_ids)), overlap=overlap, priority=priority, draw=random.random(),
              warnings=warnings, p_select=p_select, purpose=purpose, batch=batch, expected=dump(clean(expected)),
              extra=dump(clean(extra or {})), now=now).fetchone()
    for author in authors:
        run(conn, """INSERT INTO assignments (task_id, labeler_id, state, attempt, p_select, sides, claimed_at, expires_at, reason)
                     VALUES (:task, :labeler, 'barred', 0, 1.0, '[]', :now, :now, 'wrote it')""", task=row[0], labeler=author, now=now)
    return int(row[0])


def is_unwanted(warnings: str, settings: Mapping[str, Any]) -> bool:
    """Whether a task with these warnings (`tasks.warnings`) has one that a labeler with these settings opted out of."""
    return any(f" {kind} " in warnings for kind in settings.get("avoid_warnings", ()))


def _of_prompt(conn: Connection, kind: str, prompt_id: int | None) -> tuple[str, set[int]]:
    """(warnings as tasks hold them, who may not judge). Raises: ContentError; this is where a prompt without consent is given to nobody."""
    if prompt_id is None:
        return "", set()
    row = run(conn, "SELECT warnings, author_id, consent FROM prompts WHERE id = :id", id=prompt_id).fetchone()
    if row is None:
        raise ContentError(f"there is no prompt {prompt_id}")
    if not row[2]:
        raise ContentError(NO_CONSENT, hint="it is kept and given to nobody; take it out of what you bring")
    warnings = load(row[0])
    return f" {' '.join(warnings)} " if warnings else "", set() if row[1] is None or kind in OWN_PROMPT else {int(row[1])}


def _of_responses(conn: Connection, prompt_id: int | None, response_ids: Sequence[int]) -> set[int]:
    """Who wrote them. Raises ContentError when one is not an answer to the prompt."""
    authors = set()
    if len(set(response_ids)) != len(response_ids):
        raise ContentError(f"answers {list(response_ids)} have one twice")
    for response_id in response_ids:
        row = run(conn, "SELECT prompt_id, author_id FROM responses WHERE id = :id", id=response_id).fetchone()
        if row is None or row[0] != prompt_id:
            raise ContentError(f"{response_id} is not an answer to prompt {prompt_id}")
        if row[1] is not None:
            authors.add(int(row[1]))
    return authors


def setting(conn: Connection, name: str, default: Any = None) -> Any:
    """A setting's value, or the default where it was never set."""
    row = conn.execute(select(schema.settings.c.value).where(schema.settings.c.name == name)).first()
    return default if row is None else row[0]


def set_setting(conn: Connection, name: str, value: Any) -> None:
    """Set it; None removes it."""
    if value is None:
        run(conn, "DELETE FROM settings WHERE name = :name", name=name)
    else:
        run(conn, "INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name=name, value=dump(clean(value)))


def check_stands(conn: Connection, task_id: int | None) -> None:
    """Raises: ErasedError for a task whose prompt or answers were erased, before anything that may repeat them is kept."""
    row = run(conn, "SELECT extra FROM tasks WHERE id = :task", task=task_id).fetchone()
    if row is not None and ERASED in load(row[0]):
        raise ErasedError


def record_audit(conn: Connection, *, action: str, now: float, actor_id: int | None = None, subject: str | None = None,
                 **details: Any) -> int:
    """Who did what to whom, for good. Returns the row's id."""
    row = run(conn, """INSERT INTO audit (at, actor_id, action, subject, details)
                       VALUES (:now, :actor, :action, :subject, :details) RETURNING id""",
              now=now, actor=actor_id, action=action, subject=subject, details=dump(clean(details))).fetchone()
    return int(row[0])


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ContentError(f"{what} is {value!r}{did_you_mean(str(value), known)}", hint=f"it is one of {', '.join(known)}")
