"""What a forked process does to become the `quartet` command."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.cli.main import main


def run(folder: Path, environ: dict[str, str], streams: Sequence[Path], arguments: Sequence[str]) -> None:
    """Run the command in `folder` with this environment. `streams`: the files of its standard streams."""
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    try:
        main(list(arguments), prog_name="quartet")
    finally:
        # As an interpreter does at its end, and a forked process of multiprocessing does not.
        logging.shutdown()
