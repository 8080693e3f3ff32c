"""Another program writes over the keys of an account's sessions: each route goes on, and none is an error for ever."""

import pytest

from app.kit.keys import digest
from app.kit.sessions.record import bucket_for, bucket_of
from app.resources import Resources
from tests.domain.client import PASSWORD, Client

ROUTES = [
    ("GET", "/sessions", None),
    ("POST", "/logout-all?keep_current=true", None),
    ("POST", "/logout-all", None),
    ("POST", "/logout", None),
    ("PUT", "/password", {"current": PASSWORD, "new": PASSWORD}),
]


@pytest.mark.parametrize("spoilt", ["record", "index", "epoch"])
async def test_no_route_fails_and_the_next_login_but_one_is_good(
    client: Client, resources: Resources, spoilt: str, subtests: pytest.Subtests
) -> None:
    for number, (method, path, body) in enumerate(ROUTES):
        with subtests.test(path):
            elsewhere = client.with_headers(X_Forwarded_For=f"198.51.100.{number}")
            await assert_goes_on(elsewhere, resources, f"ada{number}", method, path, body, spoilt=spoilt)


async def assert_goes_on(
    client: Client, resources: Resources, name: str, method: str, path: str, body: object, *, spoilt: str
) -> None:
    ada = await client.registered(name)
    session_id, keys = ada.headers["X-Session-ID"], resources.keys
    bucket = bucket_for(ada.user_id)
    assert bucket_of(session_id) == bucket
    key = {
        "record": keys.session(bucket, digest(session_id)),
        "index": keys.session_index(bucket, ada.user_id),
        "epoch": keys.session_epoch(bucket, ada.user_id),
    }[spoilt]

    async def spoil() -> None:
        await resources.redis.delete(key)
        await resources.redis.rpush(key, "of another program")

    await spoil()
    answer = await ada.send(method, path, body)
    assert answer.status_code in (200, 204, 401)
    await spoil()
    statuses = [(await client.log_in(name)).status_code for _ in range(3)]
    assert statuses in ([200, 200, 200], [401, 200, 200])
    fresh = await client.signed_in(name)
    assert (await fresh.send(method, path, body)).status_code in (200, 204)
