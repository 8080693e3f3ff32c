"""Redis deployments of several processes for the tests: a cluster, and a primary watched by sentinels."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.services import RedisServer, binary, end, free_port, wait_until_listening

# A cluster's bus listens on the port plus this.
BUS_OFFSET = 10_000
# A replica gets its copy when it asks, not five seconds later with those that may ask meanwhile.
AT_ONCE = ("--repl-diskless-sync-delay", "0")


def cluster_port() -> int:
    """A free port whose bus port is free too."""
    while True:
        port = free_port()
        with suppress(OSError, OverflowError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port + BUS_OFFSET))
            return port


def redis_cli(port: int, *arguments: str) -> str:
    """What redis-cli prints for a command."""
    done = subprocess.run(
        [binary("redis-cli"), "-p", str(port), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def wait_for(condition: object, *, seconds: float = 30) -> None:
    """Poll a callable until it is true: for set-up outside an event loop."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the deployment did not come up")
        time.sleep(0.02)


class RedisCluster:
    """Three primaries on loopback, each with a third of the slots, and the replicas of each.

    A node that is silent for `node_timeout_ms` counts as failed, and then the others refuse commands for some seconds.
    """

    def __init__(self, folder: Path, *, replicas: int = 0, node_timeout_ms: int = 1000) -> None:
        self.folder = folder
        self.replicas = replicas
        self.node_timeout_ms = node_timeout_ms
        self.nodes = [self._node(number) for number in range(3 * (1 + replicas))]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> "RedisCluster":
        """Without leaving processes behind where it fails."""
        with ExitStack() as stack:
            stack.callback(self.stop)
            self._start()
            stack.pop_all()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def primary_of(self, key: str) -> RedisServer:
        """The node that answers for the key."""
        return next(node for node in self.nodes if "MOVED" not in redis_cli(node.port, "get", key))

    @contextmanager
    def joined(self) -> Iterator[RedisServer]:
        """One more primary, without a slot, for the duration of the block."""
        newcomer = self._node(len(self.nodes)).start()
        try:
            redis_cli(newcomer.port, "cluster", "meet", "127.0.0.1", str(self.nodes[0].port))
            wait_for(lambda: all(self._sees(node, newcomer) for node in (newcomer, *self.nodes)))
            wait_for(lambda: "cluster_state:ok" in redis_cli(newcomer.port, "cluster", "info"))
            yield newcomer
        finally:
            newcomer.stop()

    def _sees(self, node: RedisServer, other: RedisServer) -> bool:
        known = redis_cli(node.port, "cluster", "nodes")
        return (
            f":{other.port}@" in known and len(known.splitlines()) == len(self.nodes) + 1 and "handshake" not in known
        )

    def _node(self, number: int) -> RedisServer:
        own = self.folder / str(number)
        own.mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(self.node_timeout_ms), *AT_ONCE]
        # A node that gives away its last slot stays what it is.
        return RedisServer(own, *options, "--cluster-allow-replica-migration", "no", port=cluster_port())

    def _start(self) -> None:
        for node in self.nodes:
            node.start()
        addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        options = ("--cluster-replicas", str(self.replicas), "--cluster-yes")
        redis_cli(self.nodes[0].port, "--cluster", "create", *addresses, *options)
        wait_for(lambda: all("cluster_state:ok" in redis_cli(node.port, "cluster", "info") for node in self.nodes))
        links = "master_link_status:down"
        wait_for(lambda: not any(links in redis_cli(node.port, "info", "replication") for node in self.nodes))


class SentinelDeployment:
    """A primary, a replica and three sentinels that agree on failovers after a second of silence."""

    SERVICE = "main"
    DOWN_AFTER_MS = 1000

    def __init__(self, folder: Path, *, sentinel_password: str = "") -> None:
        for name in ("primary", "replica"):
            (folder / name).mkdir()
        self.folder = folder
        self.sentinel_password = sentinel_password
        self.primary = RedisServer(folder / "primary", *AT_ONCE)
        self.replica = RedisServer(folder / "replica", "--replicaof", f"127.0.0.1 {self.primary.port}")
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        query = f"?sentinel_password={self.sentinel_password}" if self.sentinel_password else ""
        return f"redis+sentinel://{hosts}/{self.SERVICE}/0{query}"

    def start(self) -> "SentinelDeployment":
        """Without leaving processes behind where it fails."""
        with ExitStack() as stack:
            stack.callback(self.stop)
            self._start()
            stack.pop_all()
        return self

    def _start(self) -> None:
        self.primary.start()
        self.replica.start()
        wait_for(lambda: "master_link_status:up" in redis_cli(self.replica.port, "info", "replication"))
        for port in self.sentinel_ports:
            self.sentinels.append(self._start_sentinel(port))
        wait_for(lambda: all(self._sees_all(port) for port in self.sentinel_ports))

    def stop(self) -> None:
        for sentinel in self.sentinels:
            end(sentinel)
        self.primary.stop()
        self.replica.stop()

    def _start_sentinel(self, port: int) -> subprocess.Popen[bytes]:
        password = f"requirepass {self.sentinel_password}\n" if self.sentinel_password else ""
        file = self.folder / f"sentinel-{port}.conf"
        # Told what they would find out by themselves in ten seconds.
        others = "".join(
            f"sentinel known-sentinel {self.SERVICE} 127.0.0.1 {other} {other:040}\n"
            for other in self.sentinel_ports
            if other != port
        )
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.folder}\nsentinel myid {port:040}\n{password}"
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {self.SERVICE} {self.DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {self.SERVICE} 5000\n"
            f"sentinel known-replica {self.SERVICE} 127.0.0.1 {self.replica.port}\n{others}"
        )
        process = subprocess.Popen([binary("redis-sentinel"), str(file)], stdout=subprocess.DEVNULL)
        wait_until_listening(port, process)
        return process

    def _sees_all(self, port: int) -> bool:
        password = ["-a", self.sentinel_password, "--no-auth-warning"] if self.sentinel_password else []
        state = redis_cli(port, *password, "sentinel", "master", self.SERVICE).split("\n")
        known = dict(zip(state[::2], state[1::2], strict=False))
        return known.get("num-slaves") == "1" and known.get("num-other-sentinels") == "2"
