"""quartet events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import click
import msgspec

from app.cli.running import end_at_interrupt, refuse_embedded, run_to_end
from app.kit.aio import first_of, stop_signal
from app.kit.client.deadline import budget
from app.kit.events.event import BROADCAST, EventTooLarge, validate_topic
from app.kit.events.hub import MAX_TOPICS
from app.kit.telemetry import NoTelemetry
from app.lifespan import BACKGROUND_SECONDS, open_resources
from app.settings import Settings

EMBEDDED = "no other process sees the events of an embedded store"


@click.group()
def events() -> None:
    """Live events."""


@events.command("publish")
@click.argument("channel")
@click.argument("type")
@click.argument("data", default="null")
@click.pass_obj
def publish(settings: Settings, channel: str, type: str, data: str) -> None:
    """Publish an event of TYPE on CHANNEL (broadcast, user:7), with DATA as JSON; prints its id."""
    refuse_embedded(settings, EMBEDDED)
    try:
        decoded = msgspec.json.decode(data)
    except ValueError as error:
        raise click.ClickException(f"DATA is not JSON: {error}") from error
    click.echo(run_to_end(_publish(settings, channel, type, decoded)))


@events.command("tail")
@click.argument("topics", nargs=-1)
@click.option("--last-event-id", help="Begin after this event, as far as the history reaches back.")
@click.pass_obj
def tail(settings: Settings, topics: tuple[str, ...], last_event_id: str | None) -> None:
    """Print the events of TOPICS (channels, or patterns such as 'user:*'; broadcast without any) until Ctrl-C.

    They are in the form of the HTTP stream, with ids.
    """
    refuse_embedded(settings, EMBEDDED)
    chosen = topics or (BROADCAST,)
    if len(set(chosen)) > MAX_TOPICS:
        raise click.ClickException(f"at most {MAX_TOPICS} topics")
    try:
        for topic in chosen:
            validate_topic(topic)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    end_at_interrupt()
    run_to_end(_tail(settings, chosen, last_event_id))


async def _publish(settings: Settings, channel: str, type: str, data: Any) -> str:
    async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:
        with budget(BACKGROUND_SECONDS):
            try:
                return await resources.publisher.publish(channel, type, data)
            except (EventTooLarge, ValueError) as error:
                raise click.ClickException(str(error)) from error


async def _tail(settings: Settings, topics: tuple[str, ...], last_event_id: str | None) -> None:
    stop = stop_signal()
    async with open_resources(settings, role="cli", telemetry=NoTelemetry()) as resources:

        async def follow() -> None:
            """Again whenever the stream ends, as an EventSource does."""
            seen = last_event_id
            while True:
                async with aclosing(resources.hub.subscribe(topics, last_event_id=seen)) as stream:
                    seen = await _print(stream) or seen
                await asyncio.sleep(1)

        await first_of(follow(), stop.wait())


async def _print(stream: AsyncGenerator[bytes, None]) -> str | None:
    """Print events without what a stream has beside them; the last id, or None without one."""
    seen = None
    async for chunk in stream:
        for block in chunk.decode().split("\n\n"):
            ids = [line[4:] for line in block.split("\n") if line.startswith("id: ")]
            seen = ids[-1] if ids else seen
            if "data: " in block:
                click.echo(block + "\n")
    return seen
