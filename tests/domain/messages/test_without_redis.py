"""What is written while Redis does not answer is told afterwards, once."""

import signal
from typing import Any

import pytest
from quart import Quart

from app.resources import Resources
from tests.domain.client import Client
from tests.domain.messages.test_messages import box, contents, events_of
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.fixture
def app(app_on_own_server: Quart) -> Quart:
    return app_on_own_server


async def test_a_message_has_its_event_and_its_task_once(
    client: Client, resources: Resources, own_server: RedisServer
) -> None:
    ada = await client.registered("ada")
    by_key = await ada.by_api_key()
    await by_key.get("/profile")
    own_server.signal(signal.SIGSTOP)
    try:
        sent = [
            await by_key.post("/messages", {"recipient_id": ada.user_id, "content": f"{number}"}) for number in range(3)
        ]
        assert [answer.status_code for answer in sent] == [201] * 3
        assert contents(await box(by_key)) == ["2", "1", "0"]
    finally:
        own_server.signal(signal.SIGCONT)
    numbers = [(await answer.get_json())["message_id"] for answer in sent]

    async def told() -> list[Any]:
        return [event["data"]["message_id"] for event in await events_of(resources, ada.user_id)]

    async def tasks() -> list[Any]:
        return [info.payload for info in await resources.queue.tasks("waiting")]

    async def is_complete() -> bool:
        return len(await told()) >= 3 and len(await tasks()) >= 3

    await eventually(is_complete)
    await resources.outbox.drain()
    assert (sorted(await told()), sorted(await tasks())) == (numbers, numbers)
