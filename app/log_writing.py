"""Writes log lines from a thread: a reader of standard error that is slow, or gone, stops nothing that logs."""

import logging
import os
import queue
import select
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

# What may wait for a slow reader. What comes beyond it is dropped, and counted in the next line.
MOST_WAITING_BYTES = 1 << 20
# At the end of the process, and before a line that ends it.
LAST_SECONDS = 2.0
# Written at once, so much is never mixed with what other processes write to the same pipe (pipe(7)).
_ATOMIC_BYTES = getattr(select, "PIPE_BUF", 512)
_RETRY_SECONDS = 0.05


class WritingHandler(logging.Handler):
    """Hands its lines to a thread, which writes them to `descriptor`. flush() waits for it, LAST_SECONDS at most."""

    def __init__(self, descriptor: int, *, most_waiting_bytes: int = MOST_WAITING_BYTES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most_waiting_bytes
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Each is written by one thread: by the one that has the handler's lock, and by the writer.
        self._given_bytes = 0
        self._done_bytes = 0
        self._dropped = 0
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if not self._give(line):
            self._dropped += 1

    def flush(self) -> None:
        # Without a lock or an event that another thread could hold: this may be the end of the process.
        deadline = time.monotonic() + LAST_SECONDS
        while self._done_bytes < self._given_bytes and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        self.flush()
        self._lines.put(None)
        super().close()

    def _give(self, line: str) -> bool:
        """False: there is no room for it."""
        data = line.encode(errors="backslashreplace") + b"\n"
        waiting = self._given_bytes - self._done_bytes
        if waiting and waiting + len(data) > self._most:
            return False
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._give(self.format(_dropped_record(dropped)))
        self._given_bytes += len(data)
        self._lines.put(data)
        if self._writer is None or not self._writer.is_alive():
            # The first line, or that of a forked process, which has no other thread.
            self._writer = threading.Thread(target=self._write, name="log", daemon=True)
            self._writer.start()
        return True

    def _write(self) -> None:
        """Until close()."""
        closed = False
        while not closed:
            found = [self._lines.get()]
            while not self._lines.empty():
                found.append(self._lines.get())
            closed = None in found
            for batch in _batches([line for line in found if line is not None]):
                # A reader that is gone: there is no place to say it.
                with suppress(OSError):
                    self._write_all(batch)
                self._done_bytes += len(batch)

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another process has made the pipe so.
                time.sleep(_RETRY_SECONDS)


def _batches(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines together, as many as are written at once; a longer one alone."""
    batch = b""
    for line in lines:
        if batch and len(batch) + len(line) > _ATOMIC_BYTES:
            yield batch
            batch = b""
        batch += line
    if batch:
        yield batch


def _dropped_record(amount: int) -> logging.LogRecord:
    message = "%d log lines were dropped: standard error is read too slowly"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (amount,), None)
