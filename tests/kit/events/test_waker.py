"""Writers are woken in turns, so that an event for all streams does not stop the loop."""

import asyncio

from redis.asyncio import Redis

from app.kit.aio import Flag, end_tasks
from app.kit.events.fanout import NOTICES_A_TURN, Fanout
from app.kit.events.grant import Grant
from app.kit.events.history import History
from app.kit.events.hub import Hub
from app.kit.events.publisher import Publisher
from app.kit.events.sse import encode_interrupted, encode_live
from app.kit.events.stream import Stream, WriteTotals
from app.kit.events.waker import WAKES_A_TURN, Waker
from app.kit.keys import Keys
from app.kit.telemetry import NoTelemetry
from tests.kit.events.event_streams import Reader
from tests.waiting import eventually


async def test_writers_are_woken_in_order_and_in_turns() -> None:
    waker, woken = Waker(), list[int]()
    turns: list[int] = []

    async def write(number: int, flag: Flag) -> None:
        await flag.wait()
        woken.append(number)

    flags = [Flag() for _ in range(3 * WAKES_A_TURN - 1)]
    writers = [asyncio.create_task(write(number, flag)) for number, flag in enumerate(flags)]
    await asyncio.sleep(0)
    for flag in flags:
        waker.wake(flag)
    while len(woken) < len(flags):
        await asyncio.sleep(0)
        turns.append(len(woken))
    assert max(after - before for before, after in zip([0, *turns], turns, strict=False)) == WAKES_A_TURN
    assert woken == sorted(woken)
    await end_tasks(writers)


async def test_all_woken_waits_until_they_have_written() -> None:
    waker, written = Waker(), list[int]()
    await waker.all_woken()

    async def write(flag: Flag) -> None:
        while True:
            await flag.wait()
            flag.clear()
            written.append(1)

    flags = [Flag() for _ in range(2 * WAKES_A_TURN + 1)]
    writers = [asyncio.create_task(write(flag)) for flag in flags]
    for _ in range(2):
        written.clear()
        for flag in flags:
            waker.wake(flag)
        await waker.all_woken()
        assert len(written) == len(flags)
    await end_tasks(writers)


async def test_an_event_for_all_lets_the_loop_run_between_its_writes(redis: Redis, keys: Keys) -> None:
    hub, publisher = Hub(redis, keys), Publisher(redis, keys)
    await hub.start()
    readers = [Reader(hub.subscribe(["broadcast"])) for _ in range(5 * WAKES_A_TURN)]
    await eventually(lambda: all(reader.is_live for reader in readers))
    publishing = asyncio.create_task(publisher.publish("broadcast", "tick", 1))
    before, steps = 0, set[int]()
    while before < len(readers):
        await asyncio.sleep(0)
        after = sum(1 for reader in readers if reader.events)
        steps.add(after - before)
        before = after
    await publishing
    assert max(steps) == WAKES_A_TURN
    for reader in readers:
        await reader.close()
    await hub.close()


async def test_the_state_of_the_connection_is_told_in_turns(redis: Redis, keys: Keys) -> None:
    hub, totals, waker, telemetry = Hub(redis, keys), WriteTotals(), Waker(), NoTelemetry()
    history = History(redis, keys, history_seconds=60)
    fanout = Fanout(redis, keys, history, waker, telemetry=telemetry, linger_seconds=10)
    for _ in range(3 * NOTICES_A_TURN + 1):
        stream = Stream(telemetry=telemetry, totals=totals, waker=waker, grant=Grant())
        stream.finish_replay(await hub.cursor())
        fanout.add(stream, ["broadcast"])
    steps: list[int] = []

    async def told_to_all(notice: bytes) -> None:
        end = totals.queued_bytes + (3 * NOTICES_A_TURN + 1) * len(notice)
        while (before := totals.queued_bytes) < end:
            await asyncio.sleep(0)
            steps.append((totals.queued_bytes - before) // len(notice))

    running = asyncio.create_task(fanout.run())
    await told_to_all(encode_live())
    running.cancel()
    await told_to_all(encode_interrupted())
    await end_tasks([running])
    assert max(steps) == NOTICES_A_TURN


async def test_a_burst_beyond_a_queue_overflows_none_whose_client_reads(redis: Redis, keys: Keys) -> None:
    hub, publisher = Hub(redis, keys, max_bytes=200_000), Publisher(redis, keys)
    await hub.start()
    readers = [Reader(hub.subscribe(["broadcast"])) for _ in range(2 * WAKES_A_TURN)]
    await eventually(lambda: all(reader.is_live for reader in readers))
    ids = await asyncio.gather(*(publisher.publish("broadcast", "tick", "x" * 30_000) for _ in range(40)))
    await eventually(lambda: all(len(reader.events) == 40 for reader in readers))
    for reader in readers:
        assert reader.ids == list(ids)
        await reader.close()
    await hub.close()
