"""quartet worker: background tasks in processes of their own."""

import asyncio
import logging
import socket
import sys
from collections.abc import Sequence

import click
from prometheus_client import start_http_server

from app import __version__
from app.cli.running import end_at_interrupt, refuse_embedded, run_to_end
from app.factory import jobs_of, metrics_of
from app.kit.aio import Backoff, first_of, stop_signal
from app.kit.telemetry import NoTelemetry, Telemetry
from app.lifespan import consuming, open_resources, relaying
from app.serving.engine import LAST_SECONDS
from app.settings import Settings
from app.tracing import make_tracer
from app.web.telemetry import PrometheusTelemetry

logger = logging.getLogger(__name__)

MOST_PROCESSES = 64
LAST_PORT = 65_535
RESTART_FIRST_SECONDS, RESTART_LONGEST_SECONDS = 1.0, 30.0

Address = tuple[str, int]


def _address(_context: click.Context, _option: click.Parameter, text: str | None) -> Address | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) <= LAST_PORT - MOST_PROCESSES:
        raise click.BadParameter("must be HOST:PORT")
    return host.strip("[]"), int(port)


@click.command()
@click.option("--queues", default="", metavar="NAME,NAME", help="Serve these queues only.  [default: all]")
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Tasks at a time.  [default: WORKER_CONCURRENCY]")
@click.option("--processes", type=click.IntRange(1, MOST_PROCESSES), default=1, show_default=True)
@click.option(
    "--metrics", callback=_address, metavar="HOST:PORT", help="Serve /metrics there; each process on the next port."
)
@click.option("--child", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.pass_obj
def worker(
    settings: Settings, *, queues: str, concurrency: int | None, processes: int, metrics: Address | None, child: bool
) -> None:
    """Run background tasks until SIGTERM or Ctrl-C.

    Then running tasks get TASK_GRACE_SECONDS; what has not ended returns to the queue. With several processes, one that
    ends is started again. Exit code 0: all have drained. 1: one had to be killed, or failed. 2: wrong use.
    """
    refuse_embedded(settings, "a worker of its own would wait at a store that no other process sees")
    names = _queue_names(settings, queues)
    end_at_interrupt()
    if processes > 1:
        options = [
            f"--queues={','.join(names)}",
            f"--concurrency={concurrency or settings.worker_concurrency}",
            "--child",
        ]
        commands = [
            [sys.executable, "-m", "app.cli", "worker", *options, *_metrics_option(metrics, number)]
            for number in range(processes)
        ]
        grace_seconds = settings.task_grace_seconds + LAST_SECONDS
        sys.exit(run_to_end(ProcessSupervisor(commands, grace_seconds=grace_seconds).run()))
    run_to_end(_work(settings, names, concurrency or settings.worker_concurrency, metrics, child=child))


def _metrics_option(address: Address | None, number: int) -> list[str]:
    return [f"--metrics={address[0]}:{address[1] + number}"] if address else []


def _queue_names(settings: Settings, queues: str) -> list[str]:
    names = [name.strip() for name in queues.split(",") if name.strip()] or list(settings.queues)
    if unknown := [name for name in names if name not in settings.queues]:
        known = ", ".join(settings.queues)
        raise click.BadParameter(
            f"no such queue: {', '.join(unknown)} (TASK_QUEUES has {known})", param_hint="--queues"
        )
    return list(dict.fromkeys(names))


async def _work(
    settings: Settings, queues: list[str], concurrency: int, metrics: Address | None, *, child: bool
) -> None:
    stop = stop_signal()
    if child:
        # The supervisor holds the other end: a child never outlives one that was killed.
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    telemetry, tracer = _telemetry(metrics), make_tracer(settings, role="worker")
    async with (
        open_resources(settings, role="worker", telemetry=telemetry, tracer=tracer) as resources,
        relaying(resources),
        consuming(settings, resources, jobs_of(), queues=queues, concurrency=concurrency),
    ):
        click.echo(f"Quartet's worker runs on {socket.gethostname()}, queues {', '.join(queues)}")
        await stop.wait()


def _telemetry(address: Address | None) -> Telemetry:
    if address is None:
        return NoTelemetry()
    telemetry = PrometheusTelemetry(version=__version__, metrics=metrics_of())
    host, port = address
    try:
        start_http_server(port, host, telemetry.registry)
    except OSError as error:
        raise click.ClickException(f"cannot serve the metrics on {host}:{port}: {error.strerror or error}") from error
    return telemetry


class ProcessSupervisor:
    """Keeps one worker process a command alive until a signal, and then lets them drain for `grace_seconds`."""

    _stopping: asyncio.Event

    def __init__(self, commands: Sequence[Sequence[str]], *, grace_seconds: float) -> None:
        self._commands = commands
        self._grace_seconds = grace_seconds

    async def run(self) -> int:
        """Returns the exit code."""
        self._stopping = stop_signal()
        return max(await asyncio.gather(*(self._keep(command) for command in self._commands)))

    async def _keep(self, command: Sequence[str]) -> int:
        """Run one child after the other until the stop; 1 where the last one did not drain."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(first_seconds=RESTART_FIRST_SECONDS, longest_seconds=RESTART_LONGEST_SECONDS)
        while not self._stopping.is_set():
            began = loop.time()
            # In a session of its own: Ctrl-C reaches the supervisor alone, which ends the child in its own way.
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, start_new_session=True
            )
            await first_of(child.wait(), self._stopping.wait())
            if self._stopping.is_set():
                return await self._drain(child)
            logger.error("worker process %d ended with %d, and is started again", child.pid, child.returncode)
            if loop.time() - began > RESTART_LONGEST_SECONDS:
                backoff.reset()
            await first_of(backoff.wait(), self._stopping.wait())
        return 0

    async def _drain(self, child: asyncio.subprocess.Process) -> int:
        if child.stdin is not None:
            # Not SIGTERM: it would end a child that has not installed its handler yet.
            child.stdin.close()
        try:
            async with asyncio.timeout(self._grace_seconds):
                await child.wait()
        except TimeoutError:
            logger.error("worker process %d did not drain in %g s, and is killed", child.pid, self._grace_seconds)
            child.kill()
        return int(await child.wait() != 0)
