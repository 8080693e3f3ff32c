"""A block's script as an echo, for tests that check that each answer is the caller's own."""

from redis.asyncio import Redis

from app.kit.scripts import run_script

TAG_MS = 10_000


async def echo(redis: Redis, key: str, token: str) -> str:
    """`token`, which is hexadecimal and at most 32 characters long, by way of the server; one token for each key."""
    version, _ = await run_script(redis, "cache/tag", keys=[key], args=[token, TAG_MS, ""])
    return bytes(version).decode().partition("-")[2]
