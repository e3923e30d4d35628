"""The store's tables. One set for SQLite and PostgreSQL; migrations in `migrations/` make and change them.

Times are UTC seconds since 1970 (float), so that expiry and speed are plain arithmetic on both databases. Texts are kept as given; what
people may see was masked before it came here (`prompts.content`). Judgements are append-only: undo and erasure add rows that say so.
"""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import JSON, Boolean, CheckConstraint, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.dialects import postgresql

NAMES = {"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s",
         "ck": "ck_%(table_name)s_%(constraint_name)s", "fk": "fk_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"}
metadata = MetaData(naming_convention=NAMES)
Document = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

KINDS = ("prompt", "demonstration", "comparison", "ranking", "rating", "label", "critique", "edit", "conversation")
ROLES = ("labeler", "expert", "lead", "admin")
PURPOSES = ("work", "practice", "screening", "gold", "shared", "drift", "adjudication", "rollout")
SOURCES = ("labeler", "customer", "import", "demo")


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _to(table: str, name: str | None = None, *, null: bool = False, index: bool = False, unique: bool = False) -> Column[int]:
    return Column(name or f"{table.removesuffix('s')}_id", Integer, ForeignKey(f"{table}.id"), nullable=null, index=index, unique=unique)


def _time(name: str, *, null: bool = True) -> Column[float]:
    return Column(name, Float, nullable=null)


def _one_of(name: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{name} IN ({', '.join(repr(v) for v in values)})", name=name)


labelers = Table(
    "labelers", metadata, _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False, server_default="labeler"),
    Column("group", Text),                                          # whose preferences these are; quality and weights are told by group
    Column("language", Text, nullable=False, server_default="en"),
    Column("held_out", Boolean, nullable=False, default=False),      # judges, but never enters training
    Column("screening", Document, nullable=False, default=dict),     # where the sequential test stands: {"state": "new", ...}
    Column("settings", Document, nullable=False, default=dict),      # opt-outs from content warnings, dark mode, ...
    Column("pay_per_hour", Float),
    Column("password_hash", Text),
    Column("failed_logins", Integer, nullable=False, default=0),
    _time("locked_until"), _time("created_at", null=False), _time("disabled_at"), _time("erased_at"),
    _one_of("role", ROLES),
)
invites = Table(
    "invites", metadata, _id(),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False), Column("group", Text), Column("held_out", Boolean, nullable=False, default=False),
    _to("labelers", "created_by", null=True), _time("created_at", null=False), _time("expires_at", null=False),
    _to("labelers", "used_by", null=True), _time("used_at"), _time("revoked_at"),
)
sessions = Table(
    "sessions", metadata, _id(),
    Column("token_hash", Text, nullable=False, unique=True), _to("labelers", index=True),
    Column("csrf_token", Text, nullable=False), Column("user_agent", Text),
    _time("created_at", null=False), _time("last_seen_at", null=False), _time("expires_at", null=False), _time("revoked_at"),
)
api_tokens = Table(
    "api_tokens", metadata, _id(),
    Column("token_hash", Text, nullable=False, unique=True), _to("labelers", index=True),
    Column("name", Text, nullable=False), Column("scopes", Document, nullable=False),
    _time("created_at", null=False), _time("expires_at"), _time("last_seen_at"), _time("revoked_at"),
)
prompts = Table(
    "prompts", metadata, _id(),
    Column("hash", Text, nullable=False, unique=True),               # sha256 of the content, which tells copies
    Column("content", Document),                                    # text or a list of messages (formats: base.records); null when erased
    Column("source", Text, nullable=False), Column("user", Text, index=True),     # the customer's own id: splits, erasure
    Column("language", Text, nullable=False, server_default="en"),
    Column("split", Text, nullable=False, server_default="train"),   # train | held_out, by user
    Column("consent", Boolean, nullable=False, default=True),
    Column("warnings", Document, nullable=False, default=list),      # kinds of content a labeler may have opted out of
    Column("extra", Document, nullable=False, default=dict),         # topic, few-shot type, file and line it came from, ...
    _to("labelers", "author_id", null=True), _time("created_at", null=False), _time("erased_at"),
    _one_of("source", SOURCES),
)
responses = Table(
    "responses", metadata, _id(), _to("prompts", index=True),
    Column("text", Text),                                           # null when erased
    Column("model", Text), Column("model_hash", Text, index=True),   # name and weights' digest: lineage
    Column("sampling", Document), Column("logprobs", Document),
    _to("labelers", "author_id", null=True), _to("responses", "revises_id", null=True), _time("created_at", null=False), _time("erased_at"),
)
tasks = Table(
    "tasks", metadata, _id(),
    Column("kind", Text, nullable=False), _to("prompts", null=True, index=True),
    Column("response_ids", Document, nullable=False, default=list),  # in the order judgements' ranks speak of
    Column("overlap", Integer, nullable=False, default=1),           # people wanted
    Column("free", Integer, nullable=False),                        # people still wanted: overlap less reservations and submissions
    Column("priority", Float, nullable=False, default=0.0),          # highest first
    Column("draw", Float, nullable=False, default=random.random),    # where the uniform share's lots find it, in [0, 1)
    Column("warnings", Text, nullable=False, default=""),            # the prompt's, as " sexual violence ": what a claim can filter by
    Column("p_select", Float, nullable=False, default=1.0),          # chance that the sampler chose this item
    Column("purpose", Text, nullable=False, server_default="work"),   # one of PURPOSES
    Column("batch", Text, index=True),                              # a sampling or import batch, PPO's rollout
    Column("expected", Document),                                   # gold: {"ranks"|"label"|...: ..., "reasons": text}
    Column("state", Text, nullable=False, server_default="open"),     # open | done | halted
    Column("extra", Document, nullable=False, default=dict), _time("created_at", null=False),
    _one_of("kind", KINDS), _one_of("purpose", PURPOSES), CheckConstraint("free >= 0 AND free <= overlap", name="free"),
)
_WANTED = (tasks.c.free > 0) & (tasks.c.state == "open")
Index("ix_tasks_queue", tasks.c.purpose, tasks.c.kind, tasks.c.priority.desc(), tasks.c.id, sqlite_where=_WANTED, postgresql_where=_WANTED)
_UNTOUCHED = (tasks.c.free == tasks.c.overlap) & (tasks.c.state == "open")
Index("ix_tasks_untouched", tasks.c.purpose, tasks.c.kind, tasks.c.priority.desc(), tasks.c.id, sqlite_where=_UNTOUCHED,
      postgresql_where=_UNTOUCHED)
Index("ix_tasks_draw", tasks.c.purpose, tasks.c.kind, tasks.c.draw, sqlite_where=_WANTED, postgresql_where=_WANTED)
_WARNED = _WANTED & (tasks.c.warnings != "")
Index("ix_tasks_warned", tasks.c.purpose, tasks.c.kind, sqlite_where=_WARNED, postgresql_where=_WARNED)
assignments = Table(
    "assignments", metadata, _id(), _to("tasks"), _to("labelers"),
    Column("state", Text, nullable=False, server_default="reserved"),  # reserved | submitted | skipped | expired | revoked | barred
    #                                                                   barred: never given, the labeler wrote what is judged
    Column("attempt", Integer, nullable=False, default=0),            # how often it was undone
    Column("p_select", Float, nullable=False, default=1.0),           # of the judgement to come: the task's times this draw's
    Column("sides", Document, nullable=False, default=list),          # position on the page -> index into response_ids
    Column("draft", Document), Column("reason", Text), _time("claimed_at", null=False), _time("expires_at", null=False), _time("ended_at"),
    Column("guideline_version", Text),                              # in force when it was given, which is what the judgement to come is by
    UniqueConstraint("task_id", "labeler_id"),
)
_RESERVED = assignments.c.state == "reserved"
Index("ix_assignments_expiry", assignments.c.expires_at, sqlite_where=_RESERVED, postgresql_where=_RESERVED)
Index("ix_assignments_future", assignments.c.claimed_at, sqlite_where=_RESERVED, postgresql_where=_RESERVED)
Index("ix_assignments_labeler", assignments.c.labeler_id, assignments.c.state, assignments.c.id)
Index("ix_assignments_day", assignments.c.labeler_id, assignments.c.claimed_at)
judgements = Table(
    "judgements", metadata, _id(),
    _to("assignments", null=True),                                  # null: imported
    Column("attempt", Integer, nullable=False, default=0),           # one judgement each attempt: a double submit finds the first
    _to("tasks", index=True), _to("labelers"), Column("kind", Text, nullable=False),
    Column("value", Document),                                      # null when erased; else some of: ranks (in response_ids' order),
    #                                                                 strength, label, rating, flags, critique, edit, text, tie, both_bad
    Column("sides", Document, nullable=False, default=list), Column("p_select", Float, nullable=False, default=1.0),
    Column("weight", Float, nullable=False, default=1.0),
    Column("seconds", Float), Column("interface_version", Text), Column("guideline_version", Text), _time("created_at", null=False),
    UniqueConstraint("assignment_id", "attempt"),
)
Index("ix_judgements_labeler", judgements.c.labeler_id, judgements.c.id)
Index("ix_judgements_time", judgements.c.created_at)
retractions = Table(                                                # undone, overruled, erased: the judgement stays and no longer counts
    "retractions", metadata, _id(), _to("judgements", unique=True), _to("labelers", "by_id", null=True),
    Column("reason", Text, nullable=False), _time("created_at", null=False),
)
origins = Table(                                                    # what imported rows are, and where they came from: nothing comes twice
    "origins", metadata,
    Column("key", Text, primary_key=True),                          # hash of what the row says; feedback/io/keys.py
    Column("row_id", Integer, nullable=False),                      # of a response, task or judgement, as the key says
    Column("file", Text, nullable=False),                           # its sha256
    Column("line", Integer, nullable=False), Column("part", Integer, nullable=False),      # which of the line's judgements
)
conversations = Table(
    "conversations", metadata, _id(), _to("labelers", index=True), _to("assignments", null=True, index=True), Column("messages", Document),
    Column("state", Text, nullable=False, server_default="open"), Column("rating", Integer), Column("comment", Text),
    _time("created_at", null=False), _time("ended_at"),
)
reports = Table(                                                    # harm | question | label_error | model_error | guideline_gap
    "reports", metadata, _id(), Column("kind", Text, nullable=False), _to("tasks", null=True, index=True), _to("labelers", null=True),
    Column("text", Text), Column("state", Text, nullable=False, server_default="open"),
    Column("answer", Text), _to("labelers", "answered_by", null=True),
    _time("created_at", null=False), _time("answered_at"),
)
snapshots = Table(
    "snapshots", metadata, _id(), Column("hash", Text, nullable=False, unique=True), Column("path", Text, nullable=False),
    Column("selection", Document, nullable=False), Column("counts", Document, nullable=False),
    _to("labelers", "created_by", null=True), _time("created_at", null=False),
    Column("tainted", Document),                                    # erased subjects that were in it: [{"subject_hash", "at"}]
)
trainings = Table(
    "trainings", metadata, _id(), _to("snapshots"), Column("run_dir", Text, nullable=False), Column("state", Text, nullable=False),
    Column("pid", Integer), Column("result", Document), _to("labelers", "created_by", null=True),
    _time("created_at", null=False), _time("ended_at"),
)
scores = Table(                                                     # what a reward model or an ensemble says of a response, by file or API
    "scores", metadata, _id(), _to("responses", index=True), Column("model", Text, nullable=False), Column("score", Float, nullable=False),
    Column("spread", Float), _time("created_at", null=False),
    UniqueConstraint("response_id", "model"),
)
settings = Table(                                                   # guidelines, weights by kind, overlap, shares
    "settings", metadata, Column("name", Text, primary_key=True), Column("value", Document),
)
audit = Table(
    "audit", metadata, _id(), _time("at", null=False), _to("labelers", "actor_id", null=True),
    Column("action", Text, nullable=False), Column("subject", Text), Column("details", Document, nullable=False, default=dict),
)
tombstones = Table(
    "tombstones", metadata, _id(), Column("subject_hash", Text, nullable=False, index=True), Column("what", Document, nullable=False),
    _to("labelers", "by_id", null=True), _time("at", null=False),
)

Row = dict[str, Any]
