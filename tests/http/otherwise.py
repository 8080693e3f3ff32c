"""What the other servers answer otherwise to the shapes of test_raw_requests, as docs/serving.md says in short.

By server and shape: the statuses, of which the last may be that of the request behind it. A shape that a server gets
right after all fails the test, so that this list stays true.
"""

from app.domain.slices import SLICES
from tests.http.wire import SECONDS
from tests.served import SERVER

# What `/` answers: the front page, or where no slice has one the way to the document.
FRONT = 200 if any(link.path == "/" for each in SLICES for link in each.links) else 302

# A connection that the others keep open is not waited for as long.
WAIT_SECONDS = SECONDS if SERVER == "ours" else 2.0

_GRANIAN: dict[str, list[int]] = {
    "absolute form over Host": [400],
    "absolute form of another host": [200],
    "obs-fold": [400],
    "raw UTF-8 in target": [404, 404],
    "authority form": [FRONT, 404],
    "CONNECT": [405, 404],
    "CONNECT with a path": [405, 404],
    "star of a GET": [404, 404],
    "user in absolute form": [FRONT, 404],
    "other scheme": [FRONT, 404],
    "no Host": [400, 404],
    "two Hosts": [400, 404],
    "CL.TE": [401],
    "TE.CL": [401],
    "TE twice": [401, 404],
    "header too large": [431, 404],
    "headers too large": [431, 404],
    "target too long": [404, 404],
    "WebSocket without key": [400, 404],
    "WebSocket that is refused": [403, 404],
}
_PLAIN: dict[str, list[int]] = {
    "an empty line before": [400],
    "empty path": [FRONT, 404],
    "fragment": [404, 404],
    "authority form": [404, 404],
    "CONNECT": [404, 404],
    "CONNECT with a path": [400, 404],
    "star of a GET": [404, 404],
    "user in absolute form": [400, 404],
    "other scheme": [404, 404],
    "version 1.2": [200, 404],
    "version 2.0": [200, 404],
    "version 9.9": [200, 404],
    "CL.TE": [401, 404],
    "TE.CL": [401],
    "TE.TE": [501],
    "TE twice": [501],
    "TE unknown": [501],
    "header too large": [431, 404],
    "headers too large": [431, 404],
    "too many headers": [200, 404],
    "target too long": [404, 404],
    "WebSocket without key": [400],
    "WebSocket of an empty path": [400],
    "WebSocket that is refused": [400],
}
OTHERWISE = {"granian": _GRANIAN, "plain": _PLAIN}.get(SERVER, {})
# Plain Hypercorn turns to HTTP/2 for these: what comes back is no HTTP/1.1.
NO_HTTP1 = ("Upgrade to h2c is ignored", "HTTP/2 preface") if SERVER == "plain" else ()
# Plain Hypercorn serves these when they come in parts, and refuses them when they come whole.
SERVED_IN_PARTS = ("version 0.9", "TE in HTTP/1.0") if SERVER == "plain" else ()
