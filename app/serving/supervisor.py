"""Several workers: processes that share the listening sockets, each started again when it dies.

In place of hypercorn.run (Hypercorn 0.18), where the death of one worker ends all with exit code 0 (near hypercorn
#269, #173), and a stop cuts the streams.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence

from app.kit.aio import Backoff, first_of

logger = logging.getLogger(__name__)

RESTART_FIRST_SECONDS, RESTART_LONGEST_SECONDS = 0.5, 30.0
# A worker that is not ready after this long counts as one that died at its start.
START_SECONDS = 60.0
MOST_DEATHS_AT_START = 3
READY, RECYCLE = b"r", b"n"


class Worker:
    """One process. `ready` and `wants_successor` are set by what it writes to its pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self.wants_successor = asyncio.Event()
        self.exited = asyncio.create_task(process.wait())
        self._is_told = False

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ended(self) -> None:
        await asyncio.wait({self.exited})

    def leave(self) -> None:
        """Let it stop without the readiness delay: another serves on its sockets."""
        self._is_told = True
        if self.process.stdin is not None:
            self.process.stdin.close()

    def stop(self) -> None:
        """Once: a second signal would force it."""
        if not self._is_told:
            self._is_told = True
            if self.process.returncode is None:
                self.process.terminate()

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()


class Supervisor:
    """Keeps `count` workers alive. SIGTERM and SIGINT drain them, SIGHUP replaces them one by one."""

    def __init__(self, command: Sequence[str], count: int, *, descriptors: Sequence[int], patience_seconds: float):
        """`command` starts a worker; it is given `--report-to FD` and `--slot NAME` beside."""
        self._command = command
        self._count = count
        self._descriptors = descriptors
        self._patience_seconds = patience_seconds
        self._stopping = asyncio.Event()
        self._replace = [asyncio.Event() for _ in range(count)]
        self._one_by_one = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._workers: set[Worker] = set()
        self._code = 0

    async def run(self) -> int:
        """Returns the exit code: 0 where all have drained."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop)
        if sys.platform != "win32":
            loop.add_signal_handler(signal.SIGHUP, self._on_replace)
        with tempfile.TemporaryDirectory(prefix="quartet-metrics-") as folder:
            self._environment = {"PROMETHEUS_MULTIPROC_DIR": folder}
            await asyncio.gather(*(self._keep(slot) for slot in range(self._count)))
            if self._leaving:
                await asyncio.wait(self._leaving)
        return self._code

    def _on_stop(self) -> None:
        if self._stopping.is_set():
            logger.warning("a second signal: the workers are killed")
            self._code = 1
            for worker in self._workers:
                worker.kill()
        self._stopping.set()
        for worker in self._workers:
            worker.stop()

    def _on_replace(self) -> None:
        logger.info("the workers are replaced, one by one")
        for event in self._replace:
            event.set()

    async def _keep(self, slot: int) -> None:
        """One worker after the other in one slot, until the stop."""
        backoff = Backoff(first_seconds=RESTART_FIRST_SECONDS, longest_seconds=RESTART_LONGEST_SECONDS)
        worker: Worker | None = None
        generation = deaths = 0
        while not self._stopping.is_set():
            if worker is None:
                worker = await self._start(slot, generation)
                if worker is None:
                    deaths += 1
                    if deaths == MOST_DEATHS_AT_START:
                        self._give_up()
                    await first_of(self._stopping.wait(), backoff.wait())
                    continue
                deaths = 0
            replace, successor = self._replace[slot], worker.wants_successor
            began = asyncio.get_running_loop().time()
            await first_of(worker.ended(), replace.wait(), successor.wait(), self._stopping.wait())
            if self._stopping.is_set():
                break
            if worker.exited.done():
                logger.error("worker %d ended with %d, and is started again", worker.pid, worker.exited.result())
                self._workers.discard(worker)
                worker = None
                if asyncio.get_running_loop().time() - began > RESTART_LONGEST_SECONDS:
                    backoff.reset()
                await first_of(self._stopping.wait(), backoff.wait())
                continue
            async with self._one_by_one:
                replace.clear()
                generation += 1
                worker = await self._succeed(worker, slot, generation)
        if worker is not None:
            await self._end(worker)

    async def _succeed(self, worker: Worker, slot: int, generation: int) -> Worker:
        """Start a successor, and let the worker leave when it is ready. Where it does not start, the worker stays."""
        successor = await self._start(slot, generation)
        if successor is None:
            logger.error("worker %d stays: its successor did not start", worker.pid)
            worker.wants_successor.clear()
            return worker
        worker.leave()
        task = asyncio.create_task(self._end(worker))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return successor

    async def _start(self, slot: int, generation: int) -> Worker | None:
        """A worker that accepts connections, or None."""
        reading, writing = os.pipe()
        # Two names a slot: a worker and its successor count apart, and what both counted stays.
        name = f"{slot}{'ab'[generation % 2]}"
        process = await asyncio.create_subprocess_exec(
            *self._command,
            f"--report-to={writing}",
            f"--slot={name}",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(*self._descriptors, writing),
            env={**os.environ, **self._environment},
            # Ctrl-C in a terminal reaches the supervisor alone.
            start_new_session=True,
        )
        os.close(writing)
        worker = Worker(process)
        self._workers.add(worker)
        self._listen_to(worker, reading)
        await first_of(worker.ended(), worker.ready.wait(), self._stopping.wait(), asyncio.sleep(START_SECONDS))
        if worker.ready.is_set() or self._stopping.is_set():
            return worker
        worker.kill()
        code = await worker.exited
        self._workers.discard(worker)
        logger.error("worker %d ended with %d at its start", worker.pid, code)
        return None

    def _give_up(self) -> None:
        logger.critical("a worker died at its start %d times in a row: all end", MOST_DEATHS_AT_START)
        self._code = 1
        self._stopping.set()
        for worker in self._workers:
            worker.stop()

    def _listen_to(self, worker: Worker, reading: int) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            said = os.read(reading, 16)
            if READY in said:
                worker.ready.set()
            if RECYCLE in said:
                worker.wants_successor.set()
            if not said:
                loop.remove_reader(reading)
                os.close(reading)

        loop.add_reader(reading, read)

    async def _end(self, worker: Worker) -> None:
        """Wait until it has drained, and kill it after the patience."""
        if self._stopping.is_set():
            worker.stop()
        await asyncio.wait({worker.exited}, timeout=self._patience_seconds)
        if not worker.exited.done():
            logger.error("worker %d did not drain in %g s, and is killed", worker.pid, self._patience_seconds)
            worker.kill()
        code = await worker.exited
        self._workers.discard(worker)
        if code and worker.ready.is_set():
            self._code = 1
