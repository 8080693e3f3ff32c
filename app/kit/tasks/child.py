"""What runs in a child process: functions that its worker sends, one after the other, over a socket of their own.

The standard streams are the function's: it may read, write and pass them on without disturbing the worker. The child
ends when its worker does, also in the middle of a function, and leaves signals that are sent to the whole group to the
worker.
"""

import importlib
import logging
import os
import pickle
import queue
import runpy
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import reduce
from types import ModuleType
from typing import Any, NamedTuple

LENGTH = struct.Struct("!Q")
READY = b"ready"


class ChildLog(NamedTuple):
    """The level and the format of the lines, and the fields that each of them has; a formatter that can be pickled."""

    level: int
    formatter: logging.Formatter
    fields: Mapping[str, str | None]


class ChildRequest(NamedTuple):
    """A function by its module and name, or, where `module` is empty, pickled; `log` is how it logs."""

    log: "ChildLog"
    module: str
    function: str | bytes
    args: bytes


class ChildReply(NamedTuple):
    """The pickled result, or the error: pickled where that is possible, as text, and its stack trace."""

    value: bytes | None = None
    error: bytes | None = None
    text: str = ""
    trace: str = ""


def send_message(connection: socket.socket, message: bytes) -> None:
    connection.sendall(LENGTH.pack(len(message)) + message)


def serve_child(descriptor: int, main_path: str | None) -> None:
    """Run what comes until the worker closes the socket."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A handler, not SIG_IGN, which the function's own child processes would inherit.
        signal.signal(number, lambda *_: None)
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    logging.basicConfig()
    requests: queue.SimpleQueue[ChildRequest] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    send_message(connection, READY)
    while True:
        reply = pickle.dumps(_run(requests.get(), main_path))
        try:
            send_message(connection, reply)
        except ConnectionError:
            # The worker has ended.
            return


def _receive(connection: socket.socket, requests: "queue.SimpleQueue[ChildRequest]") -> None:
    """In a thread, so that the end of the worker is noticed during a function."""
    try:
        while head := _read(connection, LENGTH.size):
            requests.put(pickle.loads(_read(connection, LENGTH.unpack(head)[0])))  # noqa: S301  the worker's own
    finally:
        os._exit(0)


def _read(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _run(request: ChildRequest, main_path: str | None) -> ChildReply:
    root = logging.getLogger()
    root.setLevel(request.log.level)
    for handler in root.handlers:
        handler.filters[:] = [_AddFields(request.log.fields)]
        handler.setFormatter(request.log.formatter)
    try:
        function = _find(request, main_path)
        value = function(*pickle.loads(request.args))  # noqa: S301  the worker's own
        return ChildReply(value=pickle.dumps(value))
    except BaseException as error:
        # Whatever it is, it is the function's failure and not the child's.
        return ChildReply(error=_pickled(error), text=describe(error), trace=trace_of(error))


class _AddFields(logging.Filter):
    def __init__(self, fields: Mapping[str, str | None]) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        vars(record).update(self._fields)
        return True


def _find(request: ChildRequest, main_path: str | None) -> Callable[..., Any]:
    if main_path and _names_main(request) and not hasattr(sys.modules["__main__"], "__quartet_main__"):
        _load_main(main_path)
    if isinstance(request.function, bytes):
        found: Callable[..., Any] = pickle.loads(request.function)  # noqa: S301  the worker's own
        return found
    module = importlib.import_module(request.module)
    made: Any = reduce(getattr, request.function.split("."), module)
    run: Callable[..., Any] = made.run_in_child
    return run


def _names_main(request: ChildRequest) -> bool:
    if isinstance(request.function, bytes):
        return b"__main__" in request.function or b"__main__" in request.args
    return request.module == "__main__"


def _load_main(path: str) -> None:
    """The worker's own main module, under another name, so that it does not start a worker (as multiprocessing)."""
    main = ModuleType("__main__")
    main.__dict__.update(runpy.run_path(path, run_name="__mp_main__"), __quartet_main__=True, __name__="__main__")
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _pickled(error: BaseException) -> bytes | None:
    with suppress(Exception):
        pickled = pickle.dumps(error)
        # Some exceptions can be pickled, but not made again.
        pickle.loads(pickled)  # noqa: S301  made here
        return pickled
    return None


def describe(error: BaseException) -> str:
    """The class and the text, also of an error whose own text cannot be made."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def trace_of(error: BaseException) -> str:
    """The stack trace as text."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return ""
