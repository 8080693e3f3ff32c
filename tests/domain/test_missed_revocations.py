"""Streams end also when what let them in has ended during an outage of Redis, which could not be told of it."""

import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from app.domain.users.api_keys import delete_api_key
from app.errors import Unavailable
from app.factory import create_app
from app.kit.client.deadline import budget
from app.kit.keys import Keys
from app.principal import Principal
from app.settings import load_settings
from tests.application import ALL_SLICES
from tests.domain.client import Client
from tests.domain.test_stream_revocation import resources_of, streamed
from tests.services import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.server


@pytest.mark.parametrize("outage", ["hangs", "is killed"])
async def test_a_key_that_ends_during_an_outage_ends_its_streams_afterwards(
    outage: str, keys: Keys, tmp_path: Path, sqlite_template: Path
) -> None:
    redis = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always").start()
    path = shutil.copy(sqlite_template, tmp_path / "test.db")
    environ = {"NAMESPACE": keys.namespace, "CONSUMER": "0", "REDIS_URL": redis.url}
    settings = load_settings(environ | {"DATABASE_URL": f"sqlite+aiosqlite:///{path}"})
    near, far = create_app(settings, slices=ALL_SLICES), create_app(settings, slices=ALL_SLICES)
    async with near.test_app(), far.test_app():
        ada = await Client(near).registered("ada")
        keyed = await ada.by_api_key()
        [key] = (await (await ada.get("/api-keys")).get_json())["api_keys"]
        async with streamed(far, keyed) as by_key, streamed(far, ada) as by_session:
            if outage == "hangs":
                # For less than the silence that ends a connection, so nothing else makes the node check its streams.
                redis.signal(signal.SIGSTOP)
            else:
                redis.kill()
            with suppress(Unavailable), budget(0.1):
                await delete_api_key(resources_of(near), Principal(ada.user_id, frozenset(), "session"), key["id"])
            if outage == "hangs":
                redis.signal(signal.SIGCONT)
            else:
                redis.start()
            await eventually(by_key.has_ended, seconds=30)
            assert not by_session.has_ended()
    redis.stop()
