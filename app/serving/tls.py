"""TLS: the certificate and its key, and both again from their files while connections stay open."""

import ssl
from pathlib import Path

from hypercorn.config import Config


class TLSError(Exception):
    """The certificate or the key cannot be used; the message names the file."""


class Certificate:
    """A context for new connections. `reload` keeps the one in use where the files are not valid."""

    def __init__(self, certificate: str, key: str, *, http2: bool) -> None:
        self._files = certificate, key
        self._config = Config()
        self._config.alpn_protocols = ["h2", "http/1.1"] if http2 else ["http/1.1"]
        self._config.certfile, self._config.keyfile = self._files
        self.context = self._load()

    def reload(self) -> None:
        """TLSError where the files are not valid: the certificate in use stays."""
        self._load()
        # Into the context that the sockets have, after the check: a failure between the two files would break it.
        self.context.load_cert_chain(*self._files)

    def _load(self) -> ssl.SSLContext:
        for name in self._files:
            try:
                Path(name).read_bytes()
            except OSError as error:
                raise TLSError(f"{name}: cannot be read: {error.strerror}") from error
        try:
            context = self._config.create_ssl_context()
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or "not valid"
            raise TLSError(f"{self._files[0]} and {self._files[1]}: {reason}") from error
        if context is None:
            raise TLSError("no certificate")
        return context
