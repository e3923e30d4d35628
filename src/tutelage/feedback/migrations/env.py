"""What Alembic runs for each command: the migrations, on the connection it was given."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from tutelage.feedback.schema import Document, metadata


def render(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """How a new revision writes a document's type: by the name that its template defines."""
    return "Document" if kind == "type" and repr(item) == repr(Document) else False


# render_as_batch: SQLite cannot alter most of a table, so later revisions copy it.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True, render_item=render)
with context.begin_transaction():
    context.run_migrations()
