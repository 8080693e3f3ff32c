"""Login, sessions, password and API keys over HTTP."""

import asyncio
from typing import Literal

import pytest
from argon2 import PasswordHasher
from sqlalchemy import update

from app.db.base import now
from app.domain import fields
from app.domain.users.api_keys import MOST_KEYS, RECORDED_EVERY
from app.domain.users.models import ApiKey, User
from app.domain.users.routes import API_KEYS_LIMIT
from app.domain.users.service import set_roles
from app.domain.users.tags import key_tag
from app.errors import Unavailable
from app.kit.keys import digest
from app.resources import Resources
from tests.domain.client import PASSWORD, Client


async def test_a_login_is_good_for_both_headers_and_sets_no_cookie(client: Client) -> None:
    user_id = await client.register()
    answer = await client.post("/login", {"email": " ADA@Example.COM", "password": PASSWORD})
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    body = await answer.get_json()
    assert body.keys() == {"session_id", "expires_at", "user"}
    assert body["user"] == {"id": user_id, "name": "Ada", "email": "ada@example.com"}
    profile = {"user_id": user_id, "email": "ada@example.com", "name": "Ada", "roles": []}
    for header in ({"X_Session_ID": body["session_id"]}, {"Authorization": f"Bearer {body['session_id']}"}):
        assert await (await client.get("/profile", **header)).get_json() == profile


class CountingHasher(PasswordHasher):
    """Counts the hashes that it computes, which are what a login takes its time for."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=64)
        self.computed = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.computed += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.computed += 1
        return super().verify(hash, password)


async def test_an_unknown_account_and_a_wrong_password_look_alike(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the same answer, for the same work, from the first login that a process sees."""
    hasher = CountingHasher()
    monkeypatch.setattr(resources.passwords, "_hasher", hasher)
    await client.register()
    answers = []
    for name in ("nobody", "ada", "nobody"):
        before = hasher.computed
        answer = await client.log_in(name, password="wrong")
        problem = await answer.get_json()
        answers.append((answer.status_code, hasher.computed - before, {**problem, "request_id": ""}))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][:2] == (401, 1)


async def test_any_text_may_be_tried_as_an_address(client: Client, subtests: pytest.Subtests) -> None:
    for email in ["no address", "", "x" * 320, "ä@ö.ü"]:
        with subtests.test(f"{ascii(email):.40}"):
            assert (await client.post("/login", {"email": email, "password": "x"})).status_code == 401


async def test_a_text_that_is_too_long_for_an_address_is_not_looked_at(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To normalize letters with that many marks takes seconds, and the limits would wait for it."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was looked at")

    monkeypatch.setattr(fields, "validate_email", never)
    email = "a" + "\u0300\u0323" * 50_000 + "@example.org"
    for path in ("/login", "/users"):
        answer = await client.post(path, {"email": email, "password": "correct horse", "name": "A"})
        assert answer.status_code == 422
    with pytest.raises(ValueError, match="at most"):
        fields.normalize_email(email)


async def test_malformed_logins_are_counted_too(client: Client) -> None:
    junk = client.app.test_client(use_cookies=False)
    sent = [(b"\xff", "application/json"), (b"{", "application/json"), (b"x", "text/plain")] * 2
    answers = [
        (await junk.post("/api/v1/login", data=data, headers={"Content-Type": kind})).status_code for data, kind in sent
    ]
    assert answers == [400, 400, 415, 400, 400, 429]


async def test_the_sixth_wrong_login_from_an_address_is_not_looked_at(client: Client) -> None:
    await client.register()
    for number in range(5):
        assert (await client.log_in(f"nobody{number}")).status_code == 401
    refused = await client.log_in("ada")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) in range(1, 61)
    assert (await client.with_headers(X_Forwarded_For="192.0.2.9").log_in("ada")).status_code == 200


async def test_the_sixth_wrong_login_of_an_account_is_not_looked_at(client: Client) -> None:
    await client.register()
    for number in range(5):
        elsewhere = client.with_headers(X_Forwarded_For=f"192.0.2.{number}")
        assert (await elsewhere.post("/login", {"email": "Ada@example.com", "password": "x"})).status_code == 401
    assert (await client.log_in("ada")).status_code == 429
    await client.register("eve")
    assert (await client.log_in("eve")).status_code == 200


async def test_parallel_guesses_are_limited_too(client: Client) -> None:
    await client.register()
    answers = await asyncio.gather(*(client.log_in("ada", password=str(guess)) for guess in range(20)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15


async def test_parallel_guesses_from_many_addresses_are_limited_by_the_account(client: Client) -> None:
    await client.register()
    guesses = (
        client.with_headers(X_Forwarded_For=f"192.0.2.{number}").log_in("ada", password=str(number))
        for number in range(100)
    )
    answers = await asyncio.gather(*guesses)
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 95


async def test_successful_logins_are_not_limited(client: Client) -> None:
    await client.register()
    for _ in range(8):
        assert (await client.log_in()).status_code == 200


async def test_logout_ends_the_session(client: Client) -> None:
    ada = await client.registered()
    other = await client.signed_in()
    assert (await ada.post("/logout")).status_code == 204
    assert (await ada.get("/profile")).status_code == 401
    assert (await other.get("/profile")).status_code == 200


async def test_logout_everywhere(client: Client) -> None:
    ada = await client.registered()
    others = [await client.signed_in() for _ in range(3)]
    assert await (await ada.post("/logout-all?keep_current=true")).get_json() == {"ended": 3}
    assert [(await other.get("/profile")).status_code for other in others] == [401] * 3
    assert await (await ada.post("/logout-all")).get_json() == {"ended": 1}
    assert (await ada.get("/profile")).status_code == 401


async def test_sessions_are_listed_without_their_secrets_and_end_one_by_one(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    phone = await client.with_headers(User_Agent="phone", X_Forwarded_For="192.0.2.1").signed_in("ada")
    answer = await ada.get("/sessions")
    sessions = (await answer.get_json())["sessions"]
    assert {session["current"] for session in sessions} == {True, False}
    [on_phone] = [session for session in sessions if session["user_agent"] == "phone"]
    assert on_phone["ip"] == "192.0.2.1"
    assert on_phone.keys() == {"id", "created_at", "last_activity", "ip", "user_agent", "current"}
    assert phone.headers["X-Session-ID"] not in await answer.get_data(as_text=True)
    assert (await eve.delete(f"/sessions/{on_phone['id']}")).status_code == 404
    assert (await ada.delete("/sessions/made-up")).status_code == 404
    assert (await ada.delete(f"/sessions/{on_phone['id']}")).status_code == 204
    assert (await phone.get("/profile")).status_code == 401
    assert (await ada.get("/profile")).status_code == 200


async def test_a_new_password_ends_the_other_sessions_and_renews_this_one(client: Client) -> None:
    ada = await client.registered()
    other = await client.signed_in()
    wrong = await ada.put("/password", {"current": "wrong", "new": "another password"})
    assert wrong.status_code == 403
    changed = await ada.put("/password", {"current": PASSWORD, "new": "another password"})
    assert changed.status_code == 204
    renewed = client.with_headers(X_Session_ID=changed.headers["X-Session-ID"])
    assert (await renewed.get("/profile")).status_code == 200
    assert (await ada.get("/profile")).status_code == 401
    assert (await other.get("/profile")).status_code == 401
    assert (await client.log_in()).status_code == 401
    assert (await client.log_in(password="another password")).status_code == 200


async def test_guesses_of_the_current_password_are_limited(client: Client) -> None:
    ada = await client.registered()
    guess = {"current": "wrong", "new": "another password"}
    assert [(await ada.put("/password", guess)).status_code for _ in range(6)] == [403] * 5 + [429]


async def test_an_api_key_stands_for_its_user_and_may_less(client: Client) -> None:
    ada = await client.registered()
    created = await (await ada.post("/api-keys", {"name": "ci"})).get_json()
    by_key = client.with_headers(API_Key=created["api_key"])
    assert (await (await by_key.get("/profile")).get_json())["user_id"] == ada.user_id
    listed = await ada.get("/api-keys")
    [shown] = (await listed.get_json())["api_keys"]
    assert (shown["id"], shown["name"]) == (created["id"], "ci")
    assert created["api_key"] not in await listed.get_data(as_text=True)
    assert (await by_key.post("/api-keys", {"name": "more"})).status_code == 403
    assert (await by_key.put("/password", {"current": PASSWORD, "new": "another password"})).status_code == 403
    assert (await by_key.get("/sessions")).status_code == 403


async def test_the_last_use_of_an_api_key_is_recorded_once_a_minute(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    by_key = await ada.by_api_key()

    async def last_used() -> str | None:
        [key] = (await (await ada.get("/api-keys")).get_json())["api_keys"]
        used: str | None = key["last_used_at"]
        return used

    assert await last_used() is None
    assert (await by_key.get("/profile")).status_code == 200
    first = await last_used()
    assert first is not None
    # Also where nothing is cached, a second use within the minute writes nothing.
    await resources.cache.invalidate_tags(key_tag(digest(by_key.headers["API-Key"])))
    assert (await by_key.get("/profile")).status_code == 200
    assert await last_used() == first
    async with resources.database.write() as session:
        await session.execute(update(ApiKey).values(last_used_at=now() - 2 * RECORDED_EVERY))
    await resources.cache.invalidate_tags(key_tag(digest(by_key.headers["API-Key"])))
    assert (await by_key.get("/profile")).status_code == 200
    assert str(await last_used()) >= first


async def test_an_api_key_that_is_taken_back_ends_at_once(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    created = await (await ada.post("/api-keys", {"name": "ci"})).get_json()
    by_key = client.with_headers(API_Key=created["api_key"])
    assert (await by_key.get("/profile")).status_code == 200
    assert (await eve.delete(f"/api-keys/{created['id']}")).status_code == 404
    assert (await ada.delete(f"/api-keys/{created['id']}")).status_code == 204
    assert (await by_key.get("/profile")).status_code == 401
    assert (await ada.delete(f"/api-keys/{created['id']}")).status_code == 404


async def test_made_up_keys_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    for key in ["", "qk_", "qk_" + "x" * 43, "x" * 5000, "qk_" + "ü" * 43]:
        with subtests.test(f"{ascii(key):.40}"):
            assert (await client.get("/profile", API_Key=key)).status_code == 401


async def test_a_change_of_roles_ends_the_sessions_and_holds_at_once(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    by_key = await ada.by_api_key()
    assert (await (await by_key.get("/profile")).get_json())["roles"] == []
    await set_roles(resources, ada.user_id, ["editor", "admin"])
    assert (await ada.get("/profile")).status_code == 401
    assert (await (await by_key.get("/profile")).get_json())["roles"] == ["admin", "editor"]


async def test_a_hash_by_old_parameters_is_renewed_at_login(
    client: Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = await client.register()
    old = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    async with resources.database.write() as session:
        user = await session.get(User, user_id)
        assert user is not None
        user.password_hash = old

    async def refuse(password: str) -> str:
        raise Unavailable("Too many passwords are being checked.")

    with monkeypatch.context() as busy:
        # One that cannot be renewed now is no reason to refuse the login.
        busy.setattr(type(resources.passwords), "hash", lambda _, password: refuse(password))
        assert (await client.log_in()).status_code == 200
    for _ in range(2):
        assert (await client.log_in()).status_code == 200
    async with resources.database.read() as reading:
        user = await reading.get(User, user_id)
    assert user is not None
    assert user.password_hash != old


async def test_a_user_has_at_most_so_many_api_keys(client: Client) -> None:
    """Also when they are made at the same time."""
    ada, eve = await client.registered("ada"), await client.registered("eve")
    made = await asyncio.gather(*(ada.post("/api-keys", {"name": "ci"}) for _ in range(MOST_KEYS + 5)))
    assert sorted(answer.status_code for answer in made) == [201] * MOST_KEYS + [409] * 5
    kept = (await (await ada.get("/api-keys")).get_json())["api_keys"]
    assert len(kept) == MOST_KEYS
    assert (await eve.post("/api-keys", {"name": "ci"})).status_code == 201
    assert (await ada.delete(f"/api-keys/{kept[0]['id']}")).status_code == 204
    assert (await ada.post("/api-keys", {"name": "ci"})).status_code == 201


async def test_api_keys_are_limited_by_user_and_by_address(client: Client) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    invalid = {"name": " "}
    allowed = int(API_KEYS_LIMIT.partition("/")[0])
    for _ in range(allowed):
        assert (await ada.post("/api-keys", invalid)).status_code == 422
    # The user from another address, and another user from the address.
    assert (await ada.post("/api-keys", invalid, X_Forwarded_For="198.51.100.1")).status_code == 429
    assert (await eve.post("/api-keys", invalid)).status_code == 429
    assert (await eve.post("/api-keys", invalid, X_Forwarded_For="198.51.100.2")).status_code == 422
