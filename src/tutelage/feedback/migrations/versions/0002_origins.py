"""Where imported rows came from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "origins",
        sa.Column("key", sa.Text, nullable=False), sa.Column("row_id", sa.Integer, nullable=False),
        sa.Column("file", sa.Text, nullable=False), sa.Column("line", sa.Integer, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_origins"),
    )
