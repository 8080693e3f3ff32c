"""Requests over HTTP, beside the stacks that do the same: a cached page, a session's page, a write, all limited.

One worker process each, on one Redis server, and 1, 64 or 512 connections of wrk. bench/api_pages.py has the routes.
"""

import json
import sys
import tempfile
from pathlib import Path

from app.migrations import upgrade
from bench.api_pages import RECORDS, USER
from bench.http_load import Headers, Request, Served, ask
from bench.rounds import PEERS_PYTHON, SERVING, redis_server, report, run_rounds

DRAFT = {"title": "Four instruments, one loop", "content": "A string quartet plays without a conductor. " * 8}
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1", "--log-level", "warning")
GEVENT = (*GUNICORN, "--worker-class", "gevent")
# gunicorn's documentation names two to four threads a core.
GTHREAD = (*GUNICORN, "--worker-class", "gthread", "--threads", "8")
UVICORN = (
    "-m",
    "uvicorn",
    "--port",
    "{port}",
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--log-level",
    "warning",
)
PEERS = {
    "flask stack, gevent": (*GEVENT, "bench.sides.peer_flask_api:app"),
    "flask stack, gthread": (*GTHREAD, "bench.sides.peer_flask_api:app"),
    "flask as guides teach, gevent": (*GEVENT, "bench.sides.peer_guide_api:app"),
    "litestar stack": (*UVICORN, "bench.sides.peer_litestar_api:app"),
    "fastapi stack": (*UVICORN, "bench.sides.peer_fastapi_api:app"),
}


def main(rounds: int) -> None:
    _measure("api", connections=64, rounds=rounds)


def main_of_1(rounds: int) -> None:
    _measure("api_1", connections=1, rounds=rounds)


def main_of_512(rounds: int) -> None:
    _measure("api_512", connections=512, rounds=rounds)


def _measure(name: str, *, connections: int, rounds: int) -> None:
    with redis_server() as redis_url, tempfile.TemporaryDirectory() as folder:
        # The lifespan opens a database; no route that is measured reads it.
        database_url = f"sqlite+aiosqlite:///{Path(folder) / 'app.db'}"
        upgrade(database_url)
        environ = {**SERVING, "REDIS_URL": redis_url, "DATABASE_URL": database_url, "CONSUMER": "0"}
        environ["LOG_LEVEL"] = "error"
        ours, bare = (sys.executable, "-m", "bench.sides.api_server"), (sys.executable, "-m", "bench.sides.quart_api")
        granian = {**environ, "SERVER": "granian"}
        sides = [
            Served("quartet", ours, environ, connections, requests),
            Served("quartet on granian", ours, granian, connections, requests),
            Served("quart, bare routes", bare, {}, connections, requests),
        ]
        for peer, command in PEERS.items():
            words = (str(PEERS_PYTHON), *command)
            sides.append(Served(peer, words, {"REDIS_URL": redis_url}, connections, requests))
        found = run_rounds(sides, rounds=rounds)
        report(name, found, costs=[figure for figure in found["quartet"] if not figure.endswith("requests/s")])


def requests(port: int) -> dict[str, Request]:
    """What is asked of the server on that port. RuntimeError where it does not answer as the others do."""
    cached = Request("GET", "/cached")
    session = Request("GET", "/session", headers=_begin_session(port))
    write = Request("POST", "/records", status=201, body=json.dumps(DRAFT))
    page, of_session, written = (json.loads(ask(port, each)[2]) for each in (cached, session, write))
    if page["records"] != RECORDS or of_session["user"] != USER or of_session["page"]["records"] != RECORDS:
        raise RuntimeError(f"not what the others answer: {page}, {of_session}")
    if written != {"id": written["id"], **DRAFT}:
        raise RuntimeError(f"not what was written: {written}")
    return {"cached": cached, "session": session, "write": write}


def _begin_session(port: int) -> Headers:
    """The headers by which the session of a new visitor is known."""
    _, answered, _ = ask(port, Request("POST", "/session", status=204))
    if "x-session-id" in answered:
        return {"X-Session-ID": answered["x-session-id"]}
    return {"Cookie": answered["set-cookie"].partition(";")[0]} if "set-cookie" in answered else {}
