"""TLS: the server's certificate and name are checked, and a refusal says what was wrong."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from app.kit.client.connect import connect
from app.kit.client.errors import UNAVAILABLE
from tests.deployments import cluster_port
from tests.services import RedisServer, binary, end, free_port, wait_until_listening
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """The authority's certificate, the server's, the client's, and that of an authority that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, identity in (("server", "localhost"), ("client", "client@example.org")):
        issued = authority.issue_cert(identity)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return folder


@pytest.fixture(scope="module")
def tls_server(folder: Path) -> Iterator[RedisServer]:
    port = free_port()
    options = ["--tls-port", str(port), "--port", "0", "--tls-ca-cert-file", str(folder / "ca.pem")]
    options += ["--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.key")]
    server = RedisServer(folder, *options, "--user", "app", "on", ">s3cret", "~*", "&*", "+@all", port=port)
    yield server.start()
    server.stop()


@asynccontextmanager
async def client(server: RedisServer, host: str, **options: object) -> AsyncIterator[Redis]:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    redis = connect(f"rediss://app:s3cret@{host}:{server.port}/0?{query}", name="tls", timeout_seconds=2)
    yield redis
    await redis.aclose()


async def test_a_client_certificate_and_an_acl_user(tls_server: RedisServer, folder: Path) -> None:
    certificate = {"ssl_certfile": folder / "client.pem", "ssl_keyfile": folder / "client.key"}
    async with client(tls_server, "localhost", ssl_ca_certs=folder / "ca.pem", **certificate) as redis:
        assert await redis.set("key", "value")
        assert await redis.execute_command("ACL", "WHOAMI") == b"app"


def causes(error: BaseException | None) -> str:
    text = []
    while error is not None:
        text.append(str(error))
        error = error.__cause__
    return " ".join(text)


async def test_a_certificate_of_another_authority_is_refused(tls_server: RedisServer, folder: Path) -> None:
    async with client(tls_server, "localhost", ssl_ca_certs=folder / "other-ca.pem") as redis:
        with pytest.raises(UNAVAILABLE) as caught:
            await redis.ping()
    assert "certificate verify failed" in causes(caught.value)


async def test_a_certificate_of_another_host_is_refused(tls_server: RedisServer, folder: Path) -> None:
    async with client(tls_server, "127.0.0.1", ssl_ca_certs=folder / "ca.pem") as redis:
        with pytest.raises(UNAVAILABLE) as caught:
            await redis.ping()
    assert "IP address mismatch" in causes(caught.value)


@asynccontextmanager
async def tls_cluster(folder: Path) -> AsyncIterator[RedisServer]:
    """A cluster of one node, which speaks TLS only and knows one user."""
    port = cluster_port()
    options = ["--tls-port", str(port), "--port", "0", "--tls-ca-cert-file", str(folder / "ca.pem")]
    options += ["--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.key")]
    options += ["--tls-auth-clients", "no", "--tls-cluster", "yes", "--cluster-enabled", "yes"]
    options += ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]
    own = folder / "cluster"
    own.mkdir(exist_ok=True)
    server = RedisServer(own, *options, "--user", "app", "on", ">s3cret", "~*", "&*", "+@all", port=port).start()
    try:
        async with client(server, "localhost", ssl_ca_certs=folder / "ca.pem") as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

            async def is_up() -> bool:
                return b"cluster_state:ok" in await redis.execute_command("CLUSTER", "INFO")

            await eventually(is_up)
        yield server
    finally:
        server.stop()
        (own / "nodes.conf").unlink(missing_ok=True)


async def test_a_cluster_by_tls_and_an_acl_user(folder: Path) -> None:
    async with tls_cluster(folder) as server:
        address = f"rediss+cluster://app:s3cret@localhost:{server.port}"
        redis = connect(f"{address}?ssl_ca_certs={folder / 'ca.pem'}", name="tls", timeout_seconds=5)
        assert await redis.set("key", "value")
        assert await redis.get("key") == b"value"
        await redis.aclose()
        redis = connect(f"{address}?ssl_ca_certs={folder / 'other-ca.pem'}", name="tls", timeout_seconds=30)
        with pytest.raises(UNAVAILABLE) as caught:
            await redis.get("key")
        assert "certificate verify failed" in causes(caught.value)
        await redis.aclose()


@pytest.fixture
def tls_sentinel(folder: Path, tls_server: RedisServer) -> Iterator[int]:
    """The port of a sentinel that speaks TLS only and knows one user."""
    port = free_port()
    (folder / "sentinel").mkdir()
    file = folder / "sentinel" / "sentinel.conf"
    file.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {folder / 'sentinel'}\ntls-replication yes\n"
        f"tls-ca-cert-file {folder / 'ca.pem'}\ntls-cert-file {folder / 'server.pem'}\n"
        f"tls-key-file {folder / 'server.key'}\nuser watcher on >watching ~* &* +@all\n"
        # By its name, as the certificate has it.
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        f"sentinel monitor main localhost {tls_server.port} 1\n"
        "sentinel auth-user main app\nsentinel auth-pass main s3cret\n"
    )
    process = subprocess.Popen([binary("redis-sentinel"), str(file)], stdout=subprocess.DEVNULL)
    wait_until_listening(port, process)
    yield port
    end(process)


async def test_sentinels_by_tls_with_a_user_of_their_own(folder: Path, tls_sentinel: int) -> None:
    options = f"ssl_ca_certs={folder / 'ca.pem'}&ssl_certfile={folder / 'client.pem'}"
    options += f"&ssl_keyfile={folder / 'client.key'}&sentinel_username=watcher&sentinel_password=watching"
    address = f"rediss+sentinel://app:s3cret@localhost:{tls_sentinel}/main/0"
    redis = connect(f"{address}?{options}", name="tls", timeout_seconds=10)
    assert await redis.set("key", "by sentinel")
    assert await redis.execute_command("ACL", "WHOAMI") == b"app"
    await redis.aclose()


async def test_a_missing_client_certificate_is_refused(tls_server: RedisServer, folder: Path) -> None:
    async with client(tls_server, "localhost", ssl_ca_certs=folder / "ca.pem") as redis:
        with pytest.raises(UNAVAILABLE):
            await redis.ping()


async def test_a_wrong_password_is_refused_at_once(redis_server: RedisServer) -> None:
    redis = connect(f"redis://nobody:wrong@127.0.0.1:{redis_server.port}", name="acl", timeout_seconds=30)
    with pytest.raises(UNAVAILABLE, match="WRONGPASS|invalid username-password"):
        await redis.ping()
    await redis.aclose()


async def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    server = RedisServer(folder, "--unixsocket", str(folder / "r.sock")).start()
    try:
        redis = connect(f"unix://{folder}/r.sock?db=1", name="unix", timeout_seconds=2)
        assert await redis.set("key", "value")
        await redis.aclose()
    finally:
        server.stop()
