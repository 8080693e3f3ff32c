"""Accepts connections, many in a turn of the loop, in place of loop.create_server().

uvloop's server accepts one in a turn (libuv #3696, from 1.45 on). Under load a turn takes as long as the requests that
have come since the last one, and new clients would wait for seconds.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from ssl import SSLContext

logger = logging.getLogger(__name__)
# Connections that are accepted before others of the loop, and other workers, have their turn. Until the listener admits
# or refuses them, they take descriptors of limits.RESERVED_DESCRIPTORS.
AT_A_TIME = 100
# Those that are accepted when the socket closes have their protocol within this, unless their handshake is slow.
CLOSE_SECONDS = 0.5
# How long it waits where the process has no descriptor left.
PAUSE_SECONDS = 1.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts on one socket from start() to close(); each connection is made with a new protocol.

    `handshake_seconds`: how long the handshake of `tls` may take.
    """

    def __init__(
        self,
        sock: socket,
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        tls: SSLContext | None = None,
        handshake_seconds: float | None = None,
    ) -> None:
        self._socket = sock
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> int:
        """Connections that are accepted and have no protocol yet."""
        return len(self._connecting)

    def start(self, backlog: int) -> None:
        """`backlog`: how many connections may wait in the kernel for their turn."""
        self._socket.setblocking(False)
        self._socket.listen(backlog)
        self._loop.add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Accept no more, close the socket, and wait for those that are accepted to have their protocol."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=CLOSE_SECONDS)

    def _accept(self) -> None:
        # A handshake that is under way does not count: clients that are silent would keep all others out.
        for _ in range(AT_A_TIME - (0 if self._tls else self.under_way)):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._wait(error)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _wait(self, error: OSError) -> None:
        """The socket stays readable: without a pause the loop would do nothing else."""
        logger.warning("no connection is accepted for %.1f s: %s", PAUSE_SECONDS, error.strerror)
        self._loop.remove_reader(self._socket)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._loop.add_reader, self._socket, self._accept)

    async def _connect(self, accepted: socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        except OSError:
            # The client has gone, or its handshake failed or took too long: ssl.SSLError and TimeoutError are OSErrors.
            with suppress(OSError):
                accepted.close()
