"""No principal gets an answer that was cached for another: every route that reads, asked by two users and by nobody."""

import re

from quart import Quart, Response

from app.domain.seed import seed
from app.resources import Resources
from app.web.route_policy import compile_routes
from tests.domain.client import Client

# Their answers are streams, or differ from call to call.
LEFT_OUT = {"/api/v1/events", "/health", "/health/ready", "/metrics"}

# Of any two askers each comes before the other, and each is the first of all.
ORDERS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))

Answer = tuple[int, str, str | None]


async def answer_of(response: Response) -> Answer:
    """What tells one principal's answer from another's. A problem's id differs for each request."""
    body = await response.get_data(as_text=True)
    return response.status_code, re.sub(r'"request_id":"[^"]*"', "", body), response.headers.get("ETag")


def paths(app: Quart, numbers: list[int]) -> list[str]:
    """Every route that answers to GET, its numbers being ids that there are."""
    rules = [
        rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and rule.endpoint != "static"
    ]
    templates = [rule for rule in rules if rule not in LEFT_OUT]
    filled = [re.sub(r"<int:[^>]*>", str(number), rule) for rule in templates for number in numbers]
    return sorted({re.sub(r"<[^>]*>", "x", path) for path in filled})


async def forget(resources: Resources) -> None:
    """Empty the cache, and nothing else."""
    names = [name async for name in resources.redis.scan_iter(match=f"*{resources.keys.namespace}:*", count=1000)]
    if cached := [name for name in names if b":cache:" in name or b":tag:" in name]:
        await resources.redis.unlink(*cached)


async def ask(client: Client, path: str) -> Answer:
    plain = client.app.test_client(use_cookies=False)
    return await answer_of(await plain.get(path, headers=client.headers))


async def test_each_gets_what_they_would_get_without_the_others(
    app: Quart, client: Client, resources: Resources
) -> None:
    ann, bob = await client.registered("ann"), await client.registered("bob")
    # Each slice has its demo data, whose ids begin with 1.
    await seed(resources)
    askers = [ann, bob, client]
    # A session that is read may be written, as its last activity: that is no matter of the cache.
    asked = [path for path in paths(app, sorted({ann.user_id, bob.user_id, 1})) if "sessions" not in path]
    for path in asked:
        alone = []
        for asker in askers:
            await forget(resources)
            alone.append(await ask(asker, path))
        for order in ORDERS:
            await forget(resources)
            for number in order:
                assert await ask(askers[number], path) == alone[number], (path, order)
                assert await ask(askers[number], path) == alone[number], (path, order)
    assert len(asked) > 10


async def test_the_cached_routes_are_among_those_that_are_asked(app: Quart, client: Client) -> None:
    user = await client.registered("ann")
    asked = paths(app, [user.user_id])
    routes = compile_routes(app)
    cached = [rule.rule for rule in app.url_map.iter_rules() if routes[rule.endpoint].policy.cache]
    assert len(cached) >= 3
    assert {re.sub(r"<int:[^>]*>", str(user.user_id), rule) for rule in cached} <= set(asked)
