"""The examples of docs/events.md, as parts of a running application."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from app.domain.slice import Slice
from app.kit.events.handler import EventHandler
from app.kit.events.hub import Hub
from app.kit.keys import Keys
from app.resources import Resources
from app.web.context import EXTENSION
from tests.domain.client import Client
from tests.domain.test_stream_revocation import streamed
from tests.guides import guide_text, names_of_examples, serving_examples
from tests.kit.events.event_streams import live_reader
from tests.waiting import eventually

GUIDE = "events.md"


@pytest.fixture
def guide() -> dict[str, Any]:
    return names_of_examples(GUIDE)


@pytest.fixture
async def app(guide: dict[str, Any], keys: Keys, sqlite_template: Path) -> AsyncIterator[Quart]:
    example = Slice(blueprint=guide["blueprint"], tasks=(guide["count_down"],), handlers=guide["HANDLERS"])
    async with serving_examples([example], database=sqlite_template, namespace=keys.namespace) as app:
        yield app


async def test_every_way_to_publish_reaches_the_stream_and_the_handlers_run(app: Quart, guide: dict[str, Any]) -> None:
    resources: Resources = app.extensions[EXTENSION]
    ada = await Client(app).registered("ada")
    async with streamed(app, ada) as stream:
        # The stream makes its user online, which the handler of the guide answers.
        await eventually(lambda: "welcome" in [event.type for event in stream.events])
        await guide["rename"](resources, ada.user_id, "Ada L.")
        assert (await ada.post("/greetings")).status_code == 202
        await resources.queue.submit([guide["count_down"].call(3)])
        wanted = {"welcome", "renamed", "user_renamed", "greeting", "count"}
        await eventually(lambda: wanted <= {event.type for event in stream.events})
        assert len(stream.events) == len(wanted)


def test_the_handlers_of_the_guide_are_one_of_each_kind(guide: dict[str, Any]) -> None:
    handlers: tuple[EventHandler, ...] = guide["HANDLERS"]
    assert [handler.once for handler in handlers] == [True, False]


def test_the_table_of_on_event_names_each_option() -> None:
    options = {"topics", "once", "attempts", "timeout_seconds"}
    assert options <= set(re.findall(r"^\| `(\w+)` \|", guide_text(GUIDE), re.MULTILINE))


async def test_the_names_of_the_guide_are_channels(app: Quart) -> None:
    hub: Hub = app.extensions[EXTENSION].hub
    reader = await live_reader(hub, "broadcast", "user:7", "presence", "user:*")
    await reader.close()
