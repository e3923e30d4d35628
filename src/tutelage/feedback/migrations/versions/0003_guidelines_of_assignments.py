"""Assignments say under which guidelines they were given.

Those that are open get the version in force, where it was in force already when they were given; of the others nobody knows it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.add_column("assignments", sa.Column("guideline_version", sa.Text))
    settings = sa.table("settings", sa.column("name"), sa.column("value", Document))
    now = op.get_bind().scalar(sa.select(settings.c.value).where(settings.c.name == "guidelines"))
    if now and now.get("at") is not None:
        given = sa.table("assignments", sa.column("state"), sa.column("claimed_at"), sa.column("guideline_version"))
        op.execute(given.update().where(given.c.state.in_(("reserved", "expired")), given.c.claimed_at >= now["at"])
                   .values(guideline_version=now["version"]))
