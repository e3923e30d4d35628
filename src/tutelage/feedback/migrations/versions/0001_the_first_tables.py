"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
RESERVED = sa.text("state = 'reserved'")
UNTOUCHED = sa.text("free = overlap AND state = 'open'")
WANTED = sa.text("free > 0 AND state = 'open'")
WARNED = sa.text("free > 0 AND state = 'open' AND warnings != ''")


def upgrade() -> None:
    op.create_table(
        "labelers",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False, server_default="labeler"), sa.Column("group", sa.Text),
        sa.Column("language", sa.Text, nullable=False, server_default="en"), sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("screening", Document, nullable=False), sa.Column("settings", Document, nullable=False),
        sa.Column("pay_per_hour", sa.Float), sa.Column("password_hash", sa.Text), sa.Column("failed_logins", sa.Integer, nullable=False),
        sa.Column("locked_until", sa.Float), sa.Column("created_at", sa.Float, nullable=False), sa.Column("disabled_at", sa.Float),
        sa.Column("erased_at", sa.Float), sa.PrimaryKeyConstraint("id", name="pk_labelers"),
        sa.UniqueConstraint("name", name="uq_labelers_name"),
        sa.CheckConstraint("role IN ('labeler', 'expert', 'lead', 'admin')", name=op.f("ck_labelers_role")),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, nullable=False), sa.Column("value", Document), sa.PrimaryKeyConstraint("name", name="pk_settings"),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_api_tokens_labeler_id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False), sa.Column("scopes", Document, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("expires_at", sa.Float), sa.Column("last_seen_at", sa.Float),
        sa.Column("revoked_at", sa.Float), sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
    )
    op.create_index("ix_api_tokens_labeler_id", "api_tokens", ["labeler_id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_audit_actor_id")),
        sa.Column("action", sa.Text, nullable=False), sa.Column("subject", sa.Text), sa.Column("details", Document, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "invites",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False), sa.Column("group", sa.Text), sa.Column("held_out", sa.Boolean, nullable=False),
        sa.Column("created_by", sa.Integer, sa.ForeignKey("labelers.id", name="fk_invites_created_by")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("used_by", sa.Integer, sa.ForeignKey("labelers.id", name="fk_invites_used_by")), sa.Column("used_at", sa.Float),
        sa.Column("revoked_at", sa.Float), sa.PrimaryKeyConstraint("id", name="pk_invites"),
        sa.UniqueConstraint("token_hash", name="uq_invites_token_hash"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("hash", sa.Text, nullable=False), sa.Column("content", Document),
        sa.Column("source", sa.Text, nullable=False), sa.Column("user", sa.Text),
        sa.Column("language", sa.Text, nullable=False, server_default="en"),
        sa.Column("split", sa.Text, nullable=False, server_default="train"), sa.Column("consent", sa.Boolean, nullable=False),
        sa.Column("warnings", Document, nullable=False), sa.Column("extra", Document, nullable=False),
        sa.Column("author_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_prompts_author_id")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("erased_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"), sa.UniqueConstraint("hash", name="uq_prompts_hash"),
        sa.CheckConstraint("source IN ('labeler', 'customer', 'import', 'demo')", name=op.f("ck_prompts_source")),
    )
    op.create_index("ix_prompts_user", "prompts", ["user"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("token_hash", sa.Text, nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_sessions_labeler_id"), nullable=False),
        sa.Column("csrf_token", sa.Text, nullable=False), sa.Column("user_agent", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("last_seen_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False), sa.Column("revoked_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"), sa.UniqueConstraint("token_hash", name="uq_sessions_token_hash"),
    )
    op.create_index("ix_sessions_labeler_id", "sessions", ["labeler_id"])
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("hash", sa.Text, nullable=False), sa.Column("path", sa.Text, nullable=False),
        sa.Column("selection", Document, nullable=False), sa.Column("counts", Document, nullable=False),
        sa.Column("created_by", sa.Integer, sa.ForeignKey("labelers.id", name="fk_snapshots_created_by")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("tainted", Document),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"), sa.UniqueConstraint("hash", name="uq_snapshots_hash"),
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("subject_hash", sa.Text, nullable=False),
        sa.Column("what", Document, nullable=False),
        sa.Column("by_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_tombstones_by_id")), sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tombstones"),
    )
    op.create_index("ix_tombstones_subject_hash", "tombstones", ["subject_hash"])
    op.create_table(
        "responses",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("prompt_id", sa.Integer, sa.ForeignKey("prompts.id", name="fk_responses_prompt_id"), nullable=False),
        sa.Column("text", sa.Text), sa.Column("model", sa.Text), sa.Column("model_hash", sa.Text), sa.Column("sampling", Document),
        sa.Column("logprobs", Document), sa.Column("author_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_responses_author_id")),
        sa.Column("revises_id", sa.Integer, sa.ForeignKey("responses.id", name="fk_responses_revises_id")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("erased_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
    )
    op.create_index("ix_responses_model_hash", "responses", ["model_hash"])
    op.create_index("ix_responses_prompt_id", "responses", ["prompt_id"])
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("kind", sa.Text, nullable=False),
        sa.Column("prompt_id", sa.Integer, sa.ForeignKey("prompts.id", name="fk_tasks_prompt_id")),
        sa.Column("response_ids", Document, nullable=False), sa.Column("overlap", sa.Integer, nullable=False),
        sa.Column("free", sa.Integer, nullable=False), sa.Column("priority", sa.Float, nullable=False),
        sa.Column("draw", sa.Float, nullable=False), sa.Column("warnings", sa.Text, nullable=False),
        sa.Column("p_select", sa.Float, nullable=False), sa.Column("purpose", sa.Text, nullable=False, server_default="work"),
        sa.Column("batch", sa.Text), sa.Column("expected", Document), sa.Column("state", sa.Text, nullable=False, server_default="open"),
        sa.Column("extra", Document, nullable=False), sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"), sa.CheckConstraint("free >= 0 AND free <= overlap", name=op.f("ck_tasks_free")),
        sa.CheckConstraint("kind IN ('prompt', 'demonstration', 'comparison', 'ranking', 'rating', 'label', 'critique', 'edit', "
                           "'conversation')", name=op.f("ck_tasks_kind")),
        sa.CheckConstraint("purpose IN ('work', 'practice', 'screening', 'gold', 'shared', 'drift', 'adjudication', "
                           "'rollout')", name=op.f("ck_tasks_purpose")),
    )
    op.create_index("ix_tasks_batch", "tasks", ["batch"])
    op.create_index("ix_tasks_draw", "tasks", ["purpose", "kind", "draw"], sqlite_where=WANTED, postgresql_where=WANTED)
    op.create_index("ix_tasks_prompt_id", "tasks", ["prompt_id"])
    op.create_index("ix_tasks_queue", "tasks", ["purpose", "kind", sa.text("priority DESC"), "id"],
                    sqlite_where=WANTED, postgresql_where=WANTED)
    op.create_index("ix_tasks_untouched", "tasks", ["purpose", "kind", sa.text("priority DESC"), "id"],
                    sqlite_where=UNTOUCHED, postgresql_where=UNTOUCHED)
    op.create_index("ix_tasks_warned", "tasks", ["purpose", "kind"], sqlite_where=WARNED, postgresql_where=WARNED)
    op.create_table(
        "trainings",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("snapshot_id", sa.Integer, sa.ForeignKey("snapshots.id", name="fk_trainings_snapshot_id"), nullable=False),
        sa.Column("run_dir", sa.Text, nullable=False), sa.Column("state", sa.Text, nullable=False), sa.Column("pid", sa.Integer),
        sa.Column("result", Document), sa.Column("created_by", sa.Integer, sa.ForeignKey("labelers.id", name="fk_trainings_created_by")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("ended_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_trainings"),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("task_id", sa.Integer, sa.ForeignKey("tasks.id", name="fk_assignments_task_id"), nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_assignments_labeler_id"), nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="reserved"), sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("p_select", sa.Float, nullable=False), sa.Column("sides", Document, nullable=False), sa.Column("draft", Document),
        sa.Column("reason", sa.Text), sa.Column("claimed_at", sa.Float, nullable=False), sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float), sa.PrimaryKeyConstraint("id", name="pk_assignments"),
        sa.UniqueConstraint("task_id", "labeler_id", name="uq_assignments_task_id_labeler_id"),
    )
    op.create_index("ix_assignments_day", "assignments", ["labeler_id", "claimed_at"])
    op.create_index("ix_assignments_expiry", "assignments", ["expires_at"], sqlite_where=RESERVED, postgresql_where=RESERVED)
    op.create_index("ix_assignments_future", "assignments", ["claimed_at"], sqlite_where=RESERVED, postgresql_where=RESERVED)
    op.create_index("ix_assignments_labeler", "assignments", ["labeler_id", "state", "id"])
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer, nullable=False), sa.Column("kind", sa.Text, nullable=False),
        sa.Column("task_id", sa.Integer, sa.ForeignKey("tasks.id", name="fk_reports_task_id")),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_reports_labeler_id")), sa.Column("text", sa.Text),
        sa.Column("state", sa.Text, nullable=False, server_default="open"), sa.Column("answer", sa.Text),
        sa.Column("answered_by", sa.Integer, sa.ForeignKey("labelers.id", name="fk_reports_answered_by")),
        sa.Column("created_at", sa.Float, nullable=False), sa.Column("answered_at", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
    )
    op.create_index("ix_reports_task_id", "reports", ["task_id"])
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("response_id", sa.Integer, sa.ForeignKey("responses.id", name="fk_scores_response_id"), nullable=False),
        sa.Column("model", sa.Text, nullable=False), sa.Column("score", sa.Float, nullable=False), sa.Column("spread", sa.Float),
        sa.Column("created_at", sa.Float, nullable=False), sa.PrimaryKeyConstraint("id", name="pk_scores"),
        sa.UniqueConstraint("response_id", "model", name="uq_scores_response_id_model"),
    )
    op.create_index("ix_scores_response_id", "scores", ["response_id"])
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_conversations_labeler_id"), nullable=False),
        sa.Column("assignment_id", sa.Integer, sa.ForeignKey("assignments.id", name="fk_conversations_assignment_id")),
        sa.Column("messages", Document), sa.Column("state", sa.Text, nullable=False, server_default="open"),
        sa.Column("rating", sa.Integer), sa.Column("comment", sa.Text), sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float), sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_index("ix_conversations_assignment_id", "conversations", ["assignment_id"])
    op.create_index("ix_conversations_labeler_id", "conversations", ["labeler_id"])
    op.create_table(
        "judgements",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("assignment_id", sa.Integer, sa.ForeignKey("assignments.id", name="fk_judgements_assignment_id")),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("task_id", sa.Integer, sa.ForeignKey("tasks.id", name="fk_judgements_task_id"), nullable=False),
        sa.Column("labeler_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_judgements_labeler_id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False), sa.Column("value", Document), sa.Column("sides", Document, nullable=False),
        sa.Column("p_select", sa.Float, nullable=False), sa.Column("weight", sa.Float, nullable=False), sa.Column("seconds", sa.Float),
        sa.Column("interface_version", sa.Text), sa.Column("guideline_version", sa.Text), sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
        sa.UniqueConstraint("assignment_id", "attempt", name="uq_judgements_assignment_id_attempt"),
    )
    op.create_index("ix_judgements_labeler", "judgements", ["labeler_id", "id"])
    op.create_index("ix_judgements_task_id", "judgements", ["task_id"])
    op.create_index("ix_judgements_time", "judgements", ["created_at"])
    op.create_table(
        "retractions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("judgement_id", sa.Integer, sa.ForeignKey("judgements.id", name="fk_retractions_judgement_id"), nullable=False),
        sa.Column("by_id", sa.Integer, sa.ForeignKey("labelers.id", name="fk_retractions_by_id")),
        sa.Column("reason", sa.Text, nullable=False), sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retractions"), sa.UniqueConstraint("judgement_id", name="uq_retractions_judgement_id"),
    )
