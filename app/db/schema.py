"""Whether a database's schema is as new as this version of the application needs it."""

from functools import cached_property
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, column, inspect, select, table

# Where Alembic notes what a database has reached. Its own way to read it logs two lines each time.
_TABLE = "alembic_version"
_revision = table(_TABLE, column("version_num")).c.version_num


class Schema:
    """The migrations in a folder of Alembic's, which is read at the first question."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _script(self) -> ScriptDirectory:
        return ScriptDirectory(str(self._folder))

    def missing(self, connection: Connection) -> set[str]:
        """The newest revisions that the database has not reached.

        One that a later version of the application has migrated lacks none: nodes of this version go on serving while
        the later ones start.
        """
        reached = set(connection.scalars(select(_revision))) if inspect(connection).has_table(_TABLE) else set()
        known = {revision.revision for revision in self._script.walk_revisions()}
        return set() if reached - known else set(self._script.get_heads()) - reached
