"""The ids of sessions and the API keys are in no log line, in no metric, and nowhere in Redis."""

import logging

import pytest
from quart import Quart, Response

from app.kit.keys import Keys
from app.resources import Resources
from app.web.routes.metrics import TELEMETRY_EXTENSION
from tests.domain.client import PASSWORD, Client


async def in_redis(resources: Resources, keys: Keys) -> str:
    """Every key of the application, and what it holds."""
    found = [key async for key in resources.redis.scan_iter(match=f"*{keys.namespace}:*")]
    assert found
    return "\n".join([repr((key, await resources.redis.dump(key))) for key in found])


async def test_no_log_and_no_key_holds_a_credential(
    app: Quart, client: Client, keys: Keys, resources: Resources, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ada = await client.registered()
    header_id = ada.headers["X-Session-ID"]
    by_key = await ada.by_api_key()
    browser = await resources.sessions.create({"cart": {}}, channel="cookie", user_id=ada.user_id)
    secrets = [header_id, by_key.headers["API-Key"], browser.id]

    async def ask(**headers: str) -> list[Response]:
        one = client.with_headers(**headers)
        return [
            await one.get("/profile"),
            await one.get(f"/users/{ada.user_id}"),
            await one.get("/no-such-page"),
            await one.post("/login", {"email": "ada@example.com", "password": "wrong"}),
            await one.post("/login", {"email": "eve@example.com", "password": PASSWORD}),
            await one.send("PUT", "/password", {"current": "wrong", "new": PASSWORD}),
        ]

    credentials = [
        {"X_Session_ID": header_id},
        {"Authorization": f"Bearer {header_id}"},
        {"API_Key": by_key.headers["API-Key"]},
        {"Cookie": f"{keys.namespace}={browser.id}", "Sec_Fetch_Site": "same-origin"},
        # In the wrong place, of the wrong kind, several at once.
        {"API_Key": header_id},
        {"X_Session_ID": by_key.headers["API-Key"]},
        {"Authorization": f"Basic {header_id}"},
        {"Authorization": f"Bearer {browser.id}", "API_Key": header_id},
        {"Cookie": f"{keys.namespace}={header_id}"},
    ]
    for credential in credentials:
        answers = await ask(**credential)
        assert all(answer.status_code < 500 for answer in answers)
        secrets += [
            value.partition("=")[2].partition(";")[0] for a in answers for value in a.headers.getlist("Set-Cookie")
        ]
    changed = await ada.put("/password", {"current": PASSWORD, "new": f"{PASSWORD} again"})
    secrets.append(changed.headers["X-Session-ID"])
    ada = ada.with_headers(X_Session_ID=changed.headers["X-Session-ID"])
    everything = caplog.text + await in_redis(resources, keys)
    assert (await ada.post("/logout-all")).status_code == 200
    everything += caplog.text + await in_redis(resources, keys)
    everything += app.extensions[TELEMETRY_EXTENSION].exposition().decode()
    everything += "\n".join(str(vars(record)) for record in caplog.records)
    assert "/profile" in everything
    assert len(set(secrets)) == 4
    # The part that is random, in case that the whole is written otherwise.
    assert [secret for secret in secrets if secret[4:] in everything] == []
