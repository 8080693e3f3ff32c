"""The settings of the server: where it listens, how it stops, and what one client may take. docs/serving.md."""

import sys
from typing import Annotated, Literal

from pydantic import Field

from app.setting_types import Address, AnyCase, OptionalAddress
from app.variables import FromVariables

DEFAULT_BIND = "127.0.0.1:8000"


class ServerSettings(FromVariables):
    """docs/settings.md describes each."""

    server: Annotated[Literal["hypercorn", "granian"], AnyCase] = "hypercorn"
    bind: Address = DEFAULT_BIND
    workers: int = Field(default=1, ge=1, le=64)
    worker_max_requests: int = Field(default=0, ge=0, le=1 << 40)
    readiness_delay_seconds: float = Field(default=0, ge=0, le=300)
    drain_seconds: float = Field(default=1, ge=0, le=3600)

    tls_certificate: str = ""
    tls_key: str = ""
    redirect_bind: OptionalAddress = ""
    hsts_seconds: int = Field(default=31_536_000, ge=0, le=3650 * 86_400)
    http2: bool = False

    max_connections: int = Field(default=12_000, ge=1, le=10_000_000)
    max_connections_per_address: int = Field(default=2_000, ge=1, le=10_000_000)
    max_request_line_bytes: int = Field(default=8192, ge=256, le=1 << 20)
    max_header_bytes: int = Field(default=32_768, ge=1024, le=1 << 20)
    max_header_count: int = Field(default=100, ge=10, le=10_000)
    header_timeout_seconds: float = Field(default=10, ge=0.1, le=3600)
    min_body_bytes_per_second: int = Field(default=240, ge=1, le=1 << 30)
    send_timeout_seconds: float = Field(default=30, ge=0.1, le=3600)

    @property
    def has_tls(self) -> bool:
        return bool(self.tls_certificate)

    @property
    def listens_on_network(self) -> bool:
        """Whether BIND has a host and a port, not a path or a descriptor."""
        return not self.bind.startswith(("unix:", "fd://"))

    @property
    def scheme(self) -> str:
        return "https" if self.has_tls else "http"

    def server_problems(self) -> list[str]:
        """Rules over several of these variables."""
        problems = []
        if bool(self.tls_certificate) != bool(self.tls_key):
            problems.append("TLS_CERTIFICATE and TLS_KEY: the one needs the other")
        elif not self.has_tls:
            problems += [
                f"{name}: has no effect without TLS_CERTIFICATE and TLS_KEY"
                for name, value in (("REDIRECT_BIND", self.redirect_bind), ("HTTP2", self.http2))
                if value
            ]
        if self.workers > 1 and sys.platform == "win32":
            problems.append("WORKERS: more than one share their sockets, which Windows does not let them")
        return problems
