"""The messages of a WebSocket: the frames of a stream, each as one JSON object."""


def json_messages(data: bytes) -> list[str]:
    """The frames of `data`, which are whole ones as Hub.subscribe() yields them, as JSON objects in their order.

    An object has the `id` and the `retry` of its frame; an event's has the members of its JSON too. A heartbeat's is
    empty.
    """
    return [_message(frame) for frame in data.split(b"\n\n") if frame]


def _message(frame: bytes) -> str:
    fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
    members = []
    if b"id" in fields:
        # A cursor: nothing in it needs an escape.
        members.append(b'"id":"%s"' % fields[b"id"])
    if b"retry" in fields:
        members.append(b'"retry":%s' % fields[b"retry"])
    if b"data" in fields:
        # JSON of msgspec holds no line end, so it is one line; its braces are replaced by the object's.
        members.append(fields[b"data"][1:-1])
    return (b"{" + b",".join(members) + b"}").decode()
