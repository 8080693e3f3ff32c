"""Where a server may listen, and over TLS: each address serves, or says why not in one line."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from app.serving.sockets import CannotListen, listening
from app.serving.tls import Certificate, TLSError
from tests.commands import environment, quartet, serving
from tests.services import end, free_port, wait_until_listening
from tests.waiting import eventually

SERVE = ("-m", "app.cli", "serve")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def write(authority: trustme.CA, folder: Path) -> dict[str, str]:
    """A new certificate for localhost in the folder, as settings."""
    made = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(key))
    return {"TLS_CERTIFICATE": str(certificate), "TLS_KEY": str(key)}


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serial(authority: trustme.CA, port: int) -> str:
    """Of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert()
    assert found
    return str(found["serialNumber"])


async def test_tls_serves_and_a_signal_reads_the_certificate_again(
    embedded: dict[str, str], authority: trustme.CA, tmp_path: Path
) -> None:
    settings = embedded | write(authority, tmp_path)
    with serving(settings, tmp_path, *SERVE) as (process, port):
        async with httpx.AsyncClient(verify=trusting(authority)) as client:
            assert (await client.get(f"https://localhost:{port}/health/live")).status_code == 200
            first = serial(authority, port)
            (tmp_path / "key.pem").write_text("no key")
            process.send_signal(signal.SIGHUP)
            assert (await client.get(f"https://localhost:{port}/health/live")).status_code == 200
            assert serial(authority, port) == first
            write(authority, tmp_path)
            process.send_signal(signal.SIGHUP)
            await eventually(lambda: serial(authority, port) != first)
            # A connection that was open before stays.
            assert (await client.get(f"https://localhost:{port}/health/live")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0


async def test_plain_http_is_redirected_to_the_public_url(
    embedded: dict[str, str], authority: trustme.CA, tmp_path: Path
) -> None:
    redirect = free_port()
    settings = embedded | write(authority, tmp_path)
    settings |= {"REDIRECT_BIND": f"127.0.0.1:{redirect}", "PUBLIC_URL": "https://quartet.example"}
    with serving(settings, tmp_path, *SERVE):
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{redirect}/api/v1/presence?x=%2F"
            for method in ("GET", "POST"):
                answer = await client.request(method, url, headers={"Host": "evil.example"})
                assert answer.status_code == 308
                assert answer.headers["location"] == "https://quartet.example/api/v1/presence?x=%2F"


def test_a_certificate_that_is_not_valid_is_one_line(
    embedded: dict[str, str], authority: trustme.CA, tmp_path: Path
) -> None:
    settings = embedded | write(authority, tmp_path)
    (tmp_path / "key.pem").write_text("no key")
    done = quartet(tmp_path, "serve", BIND=f"127.0.0.1:{free_port()}", **settings)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path}/cert.pem and {tmp_path}/key.pem: ")
    assert done.stderr.count("\n") == 1
    with pytest.raises(TLSError, match="No such file"):
        Certificate(str(tmp_path / "missing.pem"), settings["TLS_KEY"], http2=False)


@pytest.mark.parametrize("given", [{"TLS_CERTIFICATE": "x"}, {"REDIRECT_BIND": "127.0.0.1:1"}, {"HTTP2": "1"}])
def test_half_of_tls_is_refused(tmp_path: Path, given: dict[str, str]) -> None:
    done = quartet(tmp_path, "serve", **given)
    assert done.returncode == 2
    assert "TLS_KEY" in done.stderr


async def test_ipv6(embedded: dict[str, str], tmp_path: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    process = start(embedded | {"BIND": f"[::1]:{port}"}, tmp_path)
    try:
        await eventually(lambda: connects(socket.AF_INET6, ("::1", port)), seconds=30)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://[::1]:{port}/health/live")).status_code == 200
    finally:
        end(process)


async def test_a_unix_socket_serves_again_after_a_kill_and_is_busy_while_served(
    embedded: dict[str, str], tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    settings = embedded | {"BIND": f"unix:{path}"}
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start(settings, tmp_path)
        try:
            await eventually(lambda: connects(socket.AF_UNIX, path), seconds=30)
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client:
                assert (await client.get("http://localhost/health/live")).status_code == 200
            done = await asyncio.to_thread(quartet, tmp_path, "serve", **settings)
            assert done.stderr == f"Error: cannot listen on unix:{path}: Address already in use\n"
        finally:
            end(process, with_signal=number)


async def test_a_socket_that_is_open_already(embedded: dict[str, str], tmp_path: Path) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    process = start(embedded | {"BIND": f"fd://{made.fileno()}"}, tmp_path, pass_fds=[made.fileno()])
    port = made.getsockname()[1]
    made.close()
    try:
        async with httpx.AsyncClient(timeout=30) as client:
            # The connection waits in the backlog until the server has started.
            assert (await client.get(f"http://127.0.0.1:{port}/health/live")).status_code == 200
    finally:
        end(process)
    with pytest.raises(CannotListen, match="systemd"):
        listening("fd://987")


def test_a_port_below_1024_without_rights_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        script = (
            "import os; from app.serving.sockets import *\n"
            "listening('127.0.0.1:0').close()\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: listening('127.0.0.1:81')\n"
            "except CannotListen as error: print(error)"
        )
        command = [sys.executable, "-c", script]
    else:
        command = [sys.executable, "-m", "app.cli", "serve"]
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("this machine lets every user have every port")
    done = subprocess.run(command, env=environment({"BIND": "127.0.0.1:81"}), capture_output=True, text=True)
    assert "cannot listen on 127.0.0.1:81: Permission denied; a port below 1024" in done.stdout + done.stderr


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def start(settings: dict[str, str], folder: Path, *, pass_fds: list[int] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, *SERVE]
    return subprocess.Popen(command, env=environment(settings), cwd=folder, pass_fds=pass_fds or ())


def connects(family: int, address: object) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


async def test_a_second_signal_ends_a_process_at_once(embedded: dict[str, str], tmp_path: Path) -> None:
    with serving(embedded | {"READINESS_DELAY_SECONDS": "300"}, tmp_path, *SERVE) as (process, port):
        process.send_signal(signal.SIGTERM)
        async with httpx.AsyncClient() as client:

            async def is_unready() -> bool:
                return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 503

            await eventually(is_unready)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no file that is always full")
@pytest.mark.parametrize("server", ["hypercorn", pytest.param("granian", marks=pytest.mark.long)])
def test_a_full_disk_and_a_hangup_without_a_certificate_end_nothing(
    embedded: dict[str, str], tmp_path: Path, server: str
) -> None:
    port = free_port()
    bound = environment(embedded | {"BIND": f"127.0.0.1:{port}", "SERVER": server})
    command = [sys.executable, *SERVE]
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(command, env=bound, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=full, stderr=full)
    try:
        wait_until_listening(port, process)
        process.send_signal(signal.SIGHUP)
        for _ in range(3):
            assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        end(process)
