"""Which changed files `make dev` starts the server again for."""

from pathlib import Path

from watchfiles import Change, DefaultFilter

SOURCES = Path(__file__).resolve().parent
# The folder is watched, not these files: many editors save by renaming, and .env may be made later.
FILES = {SOURCES.parent / ".env", SOURCES.parent / "hypercorn.toml"}
_is_source = DefaultFilter()


def restarts(change: Change, path: str) -> bool:
    """Whether `path`, absolute and without links, is a setting or a source. Compiled and temporary files are none."""
    changed = Path(path)
    return changed in FILES or (SOURCES in changed.parents and _is_source(change, path))
