"""An operator looks at limits, and lets somebody in again."""

from urllib.parse import quote

import pytest
from quart import Quart
from quart.testing import QuartClient

from app.domain.users.service import register_user
from app.factory import DEFAULT_LIMIT
from app.kit.limits.limit import Charge, Limit
from app.resources import Resources
from app.web.context import EXTENSION

PASSWORD = "correct horse battery"


@pytest.fixture
async def admin(app: Quart, client: QuartClient) -> dict[str, str]:
    """The credential of an admin."""
    resources: Resources = app.extensions[EXTENSION]
    await register_user(resources, email="root@example.org", name="Root", password=PASSWORD, roles=["admin"])
    login = await client.post("/api/v1/login", json={"email": "root@example.org", "password": PASSWORD})
    return {"X-Session-ID": (await login.get_json())["session_id"]}


async def test_somebody_who_is_locked_out_is_let_in(client: QuartClient, admin: dict[str, str]) -> None:
    wrong = {"email": "Ada@example.org", "password": "wrong"}
    statuses = [(await client.post("/api/v1/login", json=wrong)).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    for name, subject in (
        ("login:account:minute", "account:ada@example.org"),
        ("login:address:minute", "address:127.0.0.1"),
    ):
        path = f"/api/v1/admin/limits/{name}?subject={subject}"
        found = await (await client.get(path, headers=admin)).get_json()
        assert found["remaining"] == 0
        assert 0 < found["reset_seconds"] <= 60
        assert (await client.delete(path, headers=admin)).status_code == 204
        assert (await (await client.get(path, headers=admin)).get_json())["remaining"] == 5
        assert (await client.delete(path, headers=admin)).status_code == 404
    assert (await client.post("/api/v1/login", json=wrong)).status_code == 401


@pytest.mark.parametrize("written", ["2001:db8:0:1::9", "[2001:db8:0:1::9]:443", "2001:db8:0:1::/64"])
async def test_an_address_may_be_written_as_a_person_does(
    client: QuartClient, admin: dict[str, str], written: str
) -> None:
    wrong, elsewhere = {"email": "ada@example.org", "password": "wrong"}, {"client": ("2001:db8:0:1::1", 4711)}
    assert (await client.post("/api/v1/login", json=wrong, scope_base=elsewhere)).status_code == 401
    path = f"/api/v1/admin/limits/login:address:minute?subject=address:{quote(written)}"
    assert (await (await client.get(path, headers=admin)).get_json())["remaining"] == 4


@pytest.mark.parametrize(
    ("counted", "written"),
    [
        ("api-key:qk_AbC", "api-key:qk_AbC"),
        ("header:Gold", "header:Gold"),
        ("account:ada@example.org", "account:Ada@Example.org"),
    ],
)
async def test_only_an_email_address_is_folded(
    app: Quart, client: QuartClient, admin: dict[str, str], counted: str, written: str
) -> None:
    limit = Limit.parse(DEFAULT_LIMIT, name="default:principal:minute", algorithm="counter")
    resources: Resources = app.extensions[EXTENSION]
    await resources.limiter.check([Charge(limit, counted)])
    path = f"/api/v1/admin/limits/{limit.name}?subject={quote(written)}"
    assert (await (await client.get(path, headers=admin)).get_json())["remaining"] == limit.amount - 1
    assert (await client.delete(path, headers=admin)).status_code == 204


async def test_every_limit_is_listed_with_where_it_holds(client: QuartClient, admin: dict[str, str]) -> None:
    answer = await client.get("/api/v1/admin/limits", headers=admin)
    limits = {limit["name"]: limit for limit in (await answer.get_json())["limits"]}
    assert limits["login:account:minute"]["amount"] == 5
    assert limits["login:account:minute"]["on_error"] == "closed"
    assert "users.sign_in.login" in limits["login:account:minute"]["endpoints"]
    assert "limits.policies" in limits["default:principal:minute"]["endpoints"]


async def test_only_admins_and_only_what_there_is(client: QuartClient, admin: dict[str, str]) -> None:
    path = "/api/v1/admin/limits"
    assert (await client.get(path)).status_code == 401
    assert (await client.delete(f"{path}/login:account:minute?subject=x")).status_code == 401
    assert (await client.get(f"{path}/no-such-limit?subject=x", headers=admin)).status_code == 404
    missing = await client.get(f"{path}/login:account:minute", headers=admin)
    assert missing.status_code == 422
    assert (await missing.get_json())["errors"][0]["loc"] == ["subject"]
