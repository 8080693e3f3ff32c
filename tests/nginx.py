"""nginx with the configuration that is shipped, before nodes of a test."""

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import trustme

from tests.commands import ROOT
from tests.services import binary, free_port, wait_until_listening

SHIPPED = ROOT / "deploy" / "nginx"
# What a server of the tests has and a system's nginx has otherwise: one process, and all files in a folder.
AROUND = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    log_format connections '$connection $server_protocol $status $uri $request_id $upstream_addr';
    access_log {folder}/access.log connections;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    include {folder}/upstream.conf;
    include {folder}/quartet.conf;
}}
"""


class Nginx:
    """The shipped files with the ports and the certificate of the test.

    `limits`: whether the limits of an address are those that are shipped; a test is many clients from one address.
    """

    def __init__(self, folder: Path, *, nodes: Sequence[int], limits: bool = False) -> None:
        self.port = free_port()
        self.folder = folder
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        node = "server 127.0.0.1:8000 max_fails=1 fail_timeout=2s;"
        servers = [node.replace("8000", str(port)) for port in nodes]
        self._write("upstream.conf", {node: "\n    ".join(servers)})
        self._write(
            "quartet.conf",
            {
                "listen 443 ": f"listen 127.0.0.1:{self.port} ",
                "/etc/ssl/certs/quartet.pem": f"{folder}/server.pem",
                "/etc/ssl/private/quartet.key": f"{folder}/server.pem",
                **(
                    {}
                    if limits
                    else {"rate=200r/s": "rate=100000r/s", "quartet_connections 300": "quartet_connections 2000"}
                ),
            },
        )
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder))

    def _write(self, name: str, changes: dict[str, str]) -> None:
        text = (SHIPPED / name).read_text()
        for shipped, ours in changes.items():
            assert text.count(shipped) == 1, shipped
            text = text.replace(shipped, ours)
        (self.folder / name).write_text(text)

    def start(self) -> subprocess.Popen[bytes]:
        command = [binary("nginx"), "-p", str(self.folder), "-e", f"{self.folder}/error.log", "-c"]
        process = subprocess.Popen([*command, str(self.folder / "nginx.conf")], stdout=subprocess.DEVNULL)
        wait_until_listening(self.port, process)
        return process

    def log(self) -> list[list[str]]:
        """The connection, protocol, status, path, request id and upstream addresses of every request that has ended."""
        return [line.split() for line in (self.folder / "access.log").read_text().splitlines()]

    def url(self, path: str, *, scheme: str = "https") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"
