"""How many statements the routes of accounts send: a read 3 at most, a write 6, however many rows there are."""

from app.resources import Resources
from tests.domain.client import PASSWORD, Client
from tests.domain.statements import recorded

MOST_OF_A_READ, MOST_OF_A_WRITE = 3, 6


async def test_routes_of_accounts_send_few_statements(client: Client, resources: Resources) -> None:
    counts: dict[str, list[int]] = {}

    async def ask(asker: Client, method: str, path: str, body: object = None, *, shown: str = "") -> None:
        with recorded() as statements:
            response = await asker.send(method, path, body)
        assert response.status_code < 300, (path, await response.get_data())
        counts.setdefault(f"{method} {shown or path}", []).append(len(statements))

    for rows in (1, 5):
        name = f"user{rows}"
        user = f"/users/{await client.register(name)}"
        await ask(client, "POST", "/login", {"email": f"{name}@example.com", "password": PASSWORD})
        asker = await client.signed_in(name)
        for number in range(rows):
            await asker.post("/api-keys", {"name": str(number)})
        await resources.cache.invalidate_tags(f"user:{asker.user_id}")
        await ask(asker, "GET", "/profile")
        await ask(asker, "GET", "/api-keys")
        await ask(asker, "GET", "/sessions")
        await resources.cache.invalidate_tags(f"user:{asker.user_id}")
        await ask(asker, "GET", user, shown="/users/id")
        await ask(asker, "POST", "/api-keys", {"name": "new"})
        await ask(await asker.by_api_key(), "GET", "/profile", shown="/profile by an API key")
        await ask(asker, "PUT", user, {"name": "New", "email": f"new{rows}@example.com"}, shown="/users/id")
        await ask(asker, "PUT", "/password", {"current": PASSWORD, "new": "another password"})
        asker = await client.signed_in(f"new{rows}", password="another password")
        await ask(asker, "DELETE", user, shown="/users/id")
    for route, (few, many) in counts.items():
        most = MOST_OF_A_READ if route.startswith("GET") else MOST_OF_A_WRITE
        assert few == many <= most, counts
