"""quartet tasks: what the queues hold, and what an operator does with dead tasks."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import click
import msgspec

from app.cli.running import refuse_embedded, run_to_end
from app.kit.tasks.info import TaskInfo
from app.kit.tasks.queue import Place, Queue
from app.kit.telemetry import NoTelemetry
from app.lifespan import open_resources
from app.settings import DEFAULT_QUEUE, Settings

T = TypeVar("T")

MOST_LISTED = 1000
LONGEST_CELL, LONGEST_SHOWN = 60, 2000
COLUMNS = ("id", "name", "state", "attempts", "created", "error")


@click.group("tasks")
@click.pass_obj
def tasks(settings: Settings) -> None:
    """The background tasks. Exit code 1: no such task, or Redis cannot be reached."""
    refuse_embedded(settings, "the tasks are those of the serving process")


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that each of these commands has."""
    as_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
    queue = click.option("--queue", "name", default=DEFAULT_QUEUE, show_default=True, help="The queue.")
    return as_json(queue(click.pass_obj(command)))


_limit = click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=100, show_default=True)
_offset = click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many of the first.")


@tasks.command("list")
@click.option("--place", type=click.Choice(get_args(Place)), default="waiting", show_default=True)
@_limit
@_offset
@_common
def list_command(settings: Settings, *, name: str, place: Place, limit: int, offset: int, as_json: bool) -> None:
    """List the tasks in one place: the next ones first, dead ones the latest first."""
    _print_list(_on(settings, name, lambda queue: queue.tasks(place, offset=offset, limit=limit)), as_json)


@tasks.command("dead")
@_limit
@_offset
@_common
def dead_command(settings: Settings, *, name: str, limit: int, offset: int, as_json: bool) -> None:
    """List dead tasks, the latest first, each with its reason."""
    _print_list(_on(settings, name, lambda queue: queue.dead(offset=offset, limit=limit)), as_json)


@tasks.command("show")
@click.argument("task_id")
@_common
def show_command(settings: Settings, *, task_id: str, name: str, as_json: bool) -> None:
    """Show all that is known of one task."""
    info = _on(settings, name, lambda queue: queue.get(task_id))
    if info is None:
        raise click.ClickException(f"no task {task_id} in the queue {name}, or it ended and is no longer kept")
    shown = _as_dict(info)
    if as_json:
        click.echo(_json(shown))
        return
    trace = shown.pop("traceback") or ""
    click.echo(_table([(key, _cell(value, longest=LONGEST_SHOWN)) for key, value in shown.items()]))
    for line in trace.splitlines():
        click.echo(_cell(line, longest=LONGEST_SHOWN))


@tasks.command("requeue")
@click.argument("task_id", required=False)
@click.option("--all", "every", is_flag=True, help="Every dead task.")
@_common
def requeue_command(settings: Settings, *, task_id: str | None, name: str, every: bool, as_json: bool) -> None:
    """Enqueue a dead task again, with all attempts before it."""
    chosen = _one_or_all(task_id, every)
    amount = _on(settings, name, lambda queue: queue.requeue(chosen))
    _print_amount("requeued", amount, chosen, as_json)


@tasks.command("purge")
@click.argument("task_id", required=False)
@click.option("--all", "every", is_flag=True, help="Every dead task.")
@_common
def purge_command(settings: Settings, *, task_id: str | None, name: str, every: bool, as_json: bool) -> None:
    """Delete a dead task."""
    chosen = _one_or_all(task_id, every)
    _print_amount("purged", _on(settings, name, lambda queue: queue.purge(chosen)), chosen, as_json)


@tasks.command("stats")
@_common
def stats_command(settings: Settings, *, name: str, as_json: bool) -> None:
    """Show how many tasks are in each place of a queue, the age of the oldest that waits, the totals, the workers."""

    async def read(queue: Queue) -> dict[str, dict[str, Any]]:
        workers = {worker.id: msgspec.to_builtins(worker.health) for worker in await queue.workers()}
        return {"depth": dict(await queue.depth()), "totals": await queue.totals(), "workers": workers}

    found = _on(settings, name, read)
    rows = [(f"{part} {what}", f"{found[part][what]:,}") for part in ("depth", "totals") for what in found[part]]
    for worker_id, health in found["workers"].items():
        busy = f"{health['running']} of {health['concurrency']} running, lag {health['loop_lag_seconds']:.3f} s"
        rows.append((f"worker {worker_id[:8]} on {health['host']}:{health['pid']}", busy))
    click.echo(_json(found) if as_json else _table(rows))


def _on(settings: Settings, name: str, ask: Callable[[Queue], Awaitable[T]]) -> T:
    if name not in settings.queues:
        raise click.BadParameter(f"there are {', '.join(settings.queues)}", param_hint="--queue")

    async def opened() -> T:
        async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:
            return await ask(resources.queues[name])

    found: T = run_to_end(opened())
    return found


def _one_or_all(task_id: str | None, every: bool) -> str | None:
    if (task_id is None) != every:
        raise click.UsageError("give the id of a dead task, or --all")
    return task_id


def _print_amount(done: str, amount: int, task_id: str | None, as_json: bool) -> None:
    if task_id is not None and not amount:
        raise click.ClickException(f"no dead task {task_id}, or another task holds its unique key")
    click.echo(_json({done: amount}) if as_json else f"{done} {amount:,}")


def _print_list(found: Sequence[TaskInfo], as_json: bool) -> None:
    if as_json:
        click.echo(_json([_as_dict(info) for info in found]))
    elif found:
        rows = [(i.id, i.name, i.state, str(i.attempts), _when(i.created_at), _cell(i.error)) for i in found]
        click.echo(_table([COLUMNS, *rows]))
    else:
        click.echo("none")


def _as_dict(info: TaskInfo) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(info)
    # Times are called so in the model, which keeps epoch seconds.
    return {name: _when(value) if name.endswith("_at") and value else value for name, value in values.items()}


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _cell(value: Any, *, longest: int = LONGEST_CELL) -> str:
    """One line: what a task has written must not draw on the terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _json(value, indent=0)
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _json(value: Any, *, indent: int = 2) -> str:
    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def _table(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)
