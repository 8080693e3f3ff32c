"""A browser: it keeps cookies, and says of each request that one of the site's own pages sent it."""

from dataclasses import dataclass
from typing import Any

from quart import Quart, Response
from quart.typing import TestClientProtocol

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True)
class Browser:
    """`jar` holds the cookies."""

    app: Quart
    jar: TestClientProtocol

    @classmethod
    def opened(cls, app: Quart) -> "Browser":
        return cls(app, app.test_client())

    @property
    def cookie(self) -> str:
        """The one cookie that it keeps, as the header has it."""
        cookies = list(self.jar.cookie_jar or ())
        assert len(cookies) == 1
        cookie = cookies[0]
        return f"{cookie.name}={cookie.value}"

    async def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> Response:
        """`body` is json= or form=."""
        return await self.jar.open(path, method=method, headers={**OWN_PAGE, **(headers or {})}, **body)

    async def get(self, path: str, **options: Any) -> Response:
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Response:
        return await self.send("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Response:
        return await self.send("PUT", path, **options)

    async def delete(self, path: str, **options: Any) -> Response:
        return await self.send("DELETE", path, **options)
