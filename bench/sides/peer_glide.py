"""Valkey GLIDE, whose core is written in Rust and multiplexes one connection."""

import os
from urllib.parse import urlsplit

import uvloop
from glide import GlideClient, GlideClientConfiguration, NodeAddress

from bench.gets import KEY, VALUE, print_gets


async def main() -> None:
    url = urlsplit(os.environ["REDIS_URL"])
    redis = await GlideClient.create(GlideClientConfiguration([NodeAddress(url.hostname, url.port)]))
    await redis.set(KEY, VALUE)
    await print_gets(redis.get)
    await redis.close()


if __name__ == "__main__":
    uvloop.run(main())
