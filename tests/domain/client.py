"""A client of the API that keeps its credential, and accounts for it to use."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from quart import Quart, Response

from app.resources import Resources

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Client:
    """Sends JSON with the same headers each time: a credential, or an address (X-Forwarded-For)."""

    app: Quart
    headers: dict[str, str] = field(default_factory=dict)
    user_id: int = 0

    def with_headers(self, **headers: str) -> "Client":
        """Another client with these headers too; underscores stand for hyphens."""
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        return Client(self.app, {**self.headers, **added}, self.user_id)

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """`headers` as in with_headers(). A body of None is none."""
        given = self.with_headers(**headers).headers
        options: dict[str, Any] = {} if body is None else {"json": body}
        # A test client of its own for each request: no cookie is kept.
        client = self.app.test_client(use_cookies=False)
        return await client.open(f"/api/v1{path}", method=method, headers=given, **options)

    async def get(self, path: str, **headers: str) -> Response:
        return await self.send("GET", path, **headers)

    async def post(self, path: str, body: object = None, **headers: str) -> Response:
        return await self.send("POST", path, body, **headers)

    async def put(self, path: str, body: object = None, **headers: str) -> Response:
        return await self.send("PUT", path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Response:
        return await self.send("DELETE", path, **headers)

    async def register(self, name: str = "ada", *, password: str = PASSWORD) -> int:
        """The number of a new account, name@example.com."""
        body = {"email": f"{name}@example.com", "name": name.title(), "password": password}
        created = await self.post("/users", body)
        assert created.status_code == 201, await created.get_data(as_text=True)
        user_id: int = (await created.get_json())["id"]
        return user_id

    async def log_in(self, name: str = "ada", *, password: str = PASSWORD) -> Response:
        return await self.post("/login", {"email": f"{name}@example.com", "password": password})

    async def signed_in(self, name: str = "ada", *, password: str = PASSWORD) -> "Client":
        """A client with a new session of the account."""
        answer = await (await self.log_in(name, password=password)).get_json()
        client = Client(self.app, self.headers, answer["user"]["id"])
        return client.with_headers(X_Session_ID=answer["session_id"])

    async def registered(self, name: str = "ada") -> "Client":
        """A client with a session of a new account."""
        await self.register(name)
        return await self.signed_in(name)

    async def by_api_key(self) -> "Client":
        """This signed-in client's user, by an API key."""
        key = (await (await self.post("/api-keys", {"name": "test"})).get_json())["api_key"]
        return Client(self.app, {"API-Key": key}, self.user_id)


async def broadcast(resources: Resources, type: str) -> list[Any]:
    """The data of the events of a type that were told to everyone, in their order."""
    entries: Any = await resources.redis.xrange(resources.keys.event_stream("broadcast"))
    payloads = [value for _, fields in entries for value in fields.values() if value.startswith(b"{")]
    events = [msgspec.json.decode(payload) for payload in payloads]
    return [event["data"] for event in events if event["type"] == type]
