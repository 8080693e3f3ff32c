"""The listening sockets. What cannot be had says why in one line, before anything else begins."""

import errno
import os
import socket
import stat
import sys
from dataclasses import dataclass, field

# A connection ends when sent data stays unacknowledged for this long (TCP_USER_TIMEOUT, RFC 5482). Only Linux has the
# option; elsewhere the system's retransmission limit ends such a connection later.
USER_TIMEOUT_MS = 10_000
# The kernel's buffer for one connection. Small, so that a slow client is noticed here.
SEND_BUFFER_BYTES = 64 * 1024


class CannotListen(Exception):
    """One line that names the address and the reason."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """By what is spoken on them: HTTP, HTTPS, and HTTP that is answered by a redirect to HTTPS."""

    plain: list[socket.socket] = field(default_factory=list)
    secure: list[socket.socket] = field(default_factory=list)
    redirect: list[socket.socket] = field(default_factory=list)

    def all(self) -> list[socket.socket]:
        return [*self.plain, *self.secure, *self.redirect]


def listening(address: str) -> socket.socket:
    """A socket at `host:port`, `[v6]:port`, `unix:/a/path` or `fd://number` (systemd's begin at 3). CannotListen."""
    try:
        if address.startswith("unix:"):
            return _unix(address.removeprefix("unix:"))
        if address.startswith("fd://"):
            return _inherited(int(address.removeprefix("fd://")))
        return _tcp(address)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror or error}{_hint(error, address)}") from error


def from_descriptor(number: int) -> socket.socket:
    """A socket that another process has made."""
    return socket.socket(fileno=number)


def _tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family, kind, protocol, _, name = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit both on Linux.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if sys.platform == "linux":
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        made.bind(name)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets for Python")
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        is_socket = False
    else:
        if not is_socket:
            raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
    if is_socket:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        # Left by a server that was killed.
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def _inherited(number: int) -> socket.socket:
    made = socket.socket(fileno=number)
    if made.type != socket.SOCK_STREAM or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        made.detach()
        raise OSError(errno.EINVAL, "the descriptor is no socket that listens")
    made.setblocking(False)
    return made


def _hint(error: OSError, address: str) -> str:
    """What may help, or nothing."""
    if address.startswith("unix:"):
        return ""
    if address.startswith("fd://"):
        return "; who starts this process has to open it (systemd: a .socket unit)"
    if error.errno == errno.EADDRINUSE:
        return "; BIND=127.0.0.1:9000 serves elsewhere"
    if error.errno == errno.EACCES:
        return "; a port below 1024 may need rights that this user lacks, and BIND=127.0.0.1:8000 needs none"
    return ""
