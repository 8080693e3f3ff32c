"""The command itself: it reads the settings, and each subcommand receives them."""

import json
import logging
import os
import sys

import click

from app import __version__, logs
from app.cli.database import db, seed
from app.cli.events import events
from app.cli.serving import run, serve, subscribe
from app.cli.shell import shell
from app.cli.tasks import tasks
from app.cli.users import users
from app.cli.worker import worker
from app.factory import check_urls
from app.settings import Reading, SettingsError, read_settings
from app.settings_report import report, table
from app.tracing import trace_fields
from app.web.middleware.request_log import log_fields

READING = "app.cli.reading"
logger = logging.getLogger("app.cli")


class BadSettings(click.ClickException):
    """Like a wrong use of the command, it is exit code 2."""

    exit_code = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quartet", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Quartet: an asynchronous service on Quart and Redis.

    Settings come from the environment and from .env in the working directory (docs/settings.md).
    """
    _open_standard_streams()
    try:
        reading = read_settings()
        context.obj = reading.settings
        check_urls(context.obj)
    except SettingsError as error:
        raise BadSettings(error.shown()) from error
    logs.configure(context.obj.log_level, is_production=context.obj.is_production, fields=(log_fields, trace_fields))
    context.meta[READING] = reading
    # Names that look like settings and are none would silently have no effect.
    for warning in reading.warnings:
        logger.warning("%s", warning)
    # A child process for a task runs its parent's main file again (anyio does it): a second's worth of imports, of
    # which pdb's (through Quart) fails on Python 3.13, where it looks for __main__. Without a file it runs none.
    vars(sys.modules["__main__"]).pop("__file__", None)


def _open_standard_streams() -> None:
    """Those that were closed at the start lead nowhere. A connection would get the number of one, and its text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the least number that is free.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  until the process ends


@main.command("settings")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object, for programs.")
@click.pass_context
def show_settings(context: click.Context, as_json: bool) -> None:
    """Show every setting, its value and where it came from. Secrets are hidden."""
    reading: Reading = context.meta[READING]
    click.echo(json.dumps(report(reading), indent=2) if as_json else table(reading))


for command in (run, serve, worker, subscribe, db, seed, shell, users, tasks, events):
    main.add_command(command)
