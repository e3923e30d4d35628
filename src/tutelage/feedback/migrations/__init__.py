"""The database's history: `versions/` holds one file a revision, which Alembic applies in order."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from ..errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent
_ALEMBIC = threading.Lock()                                          # its context is one global of the process
OWN_TABLES = {"labelers", "tasks", "assignments", "judgements"}     # in every version: what tells our database from another's


def config(connection: Connection | None = None) -> Config:
    """Alembic's settings, made here rather than in an ini file. `env.py` finds the connection in them."""
    from alembic.config import Config

    made = Config(attributes={"connection": connection})
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def version(connection: Connection) -> str | None:
    """The database's revision; None: it has no tables yet. Raises StoreError when the tables are not the studio's."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if "alembic_version" not in tables or not tables >= OWN_TABLES:
        raise StoreError(f"the database holds other tables ({', '.join(sorted(tables)[:3])}, …) and not the studio's",
                         hint="name another database in TUTELAGE_DATABASE_URL; the studio makes a new one where there is none")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def upgrade(connection: Connection) -> None:
    """Bring the database to this version's tables, within the connection's transaction. Raises StoreError when a newer one made it."""
    from alembic import command
    from alembic.script import ScriptDirectory

    settings = config(connection)
    scripts = ScriptDirectory.from_config(settings)
    found, head = version(connection), scripts.get_current_head()
    if found == head:
        return
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(f"the database has revision {found} and this version of tutelage knows none after {head}",
                         hint="it was opened by a newer tutelage: upgrade this one (pip install --upgrade tutelage), or restore a backup")
    with _ALEMBIC:
        command.upgrade(settings, "head")
