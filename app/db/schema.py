"""Whether a database has every migration that this version of the application needs."""

from functools import cached_property
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, inspect, select, table

# Where Alembic stores what a database has reached. Reading it by Alembic logs two lines each time.
_TABLE = "alembic_version"
_revision = table(_TABLE, column("version_num")).c.version_num


class Schema:
    """The migrations in Alembic's folder, which is read at first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _script(self) -> ScriptDirectory:
        return ScriptDirectory(str(self._folder))

    def missing(self, connection: Connection) -> set[str]:
        """The newest revision of each branch that the database has not reached.

        A database that a later version of the application has migrated lacks none: nodes of this version go on serving
        while the later ones start.
        """
        reached = set(connection.scalars(select(_revision))) if inspect(connection).has_table(_TABLE) else set()
        known = {revision.revision for revision in self._script.walk_revisions()}
        if reached - known:
            return set()
        # Alembic stores no revision on which another one depends.
        current = {revision.revision for revision in self._script.get_all_current(tuple(reached))}
        return set(self._script.get_heads()) - current
