"""The messages of a WebSocket say what the frames say that they are made of."""

import json

import msgspec
import pytest

from app.kit.events.event import Cursor, Message, encode_event
from app.kit.events.json_messages import json_messages
from app.kit.events.sse import HEARTBEAT, encode_message, encode_position, encode_resync, encode_retry
from tests.kit.events.event_streams import Parser

CURSOR = Cursor("0123456789ab", (1700000000000, 7))
TEXTS = ["", "plain", 'a "quoted" \\ text', "one\ntwo\r\n\n\nthree", "\u2028\u2029\x85\x0b\0", "Zoë 🎉", ": {} ,", "}"]


def frame(data: object) -> bytes:
    return encode_message(Message("news", "tick", CURSOR, (0, 0), encode_event("news", "tick", data))).data


@pytest.mark.parametrize(
    "data", [*TEXTS, None, True, 0, -1.5, [], {}, {"a": [{"b": None}]}, {text: text for text in TEXTS}]
)
def test_an_event_is_its_json_and_its_id(data: object) -> None:
    parser, encoded = Parser(), frame(data)
    parser.feed(encoded)
    [sent] = json_messages(encoded)
    assert json.loads(sent) == {"id": str(CURSOR), **parser.events[0].data}
    assert msgspec.json.decode(sent)["data"] == data


def test_a_resync_has_the_id_to_go_on_from_if_there_is_one() -> None:
    [known], [unknown] = (json_messages(encode_resync(cursor, reason="slow")) for cursor in (CURSOR, None))
    assert json.loads(known).items() >= {"id": str(CURSOR), "type": "resync", "data": {"reason": "slow"}}.items()
    assert "id" not in json.loads(unknown)


def test_what_is_no_event_has_no_type() -> None:
    retry = encode_retry()
    sent = json_messages(HEARTBEAT + retry + encode_position(CURSOR))
    assert [json.loads(text) for text in sent] == [{}, {"retry": int(retry.split()[1])}, {"id": str(CURSOR)}]


def test_joined_writes_are_messages_of_their_own() -> None:
    texts = json_messages(b"".join(frame(number) for number in range(100)))
    assert [json.loads(text)["data"] for text in texts] == list(range(100))
    assert json_messages(b"") == []
