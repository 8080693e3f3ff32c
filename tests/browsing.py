"""One Chromium and one served site for all browser tests, and visits that tell what a page did wrong."""

import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, async_playwright, expect
from quart import Quart
from quart_schema import hide

from app.domain.users.service import register_user
from app.errors import Forbidden, NotFound, Unavailable
from app.resources import Resources
from app.web.limits.declare import rate_limit
from tests.clients.chromium import ARGUMENTS
from tests.served import Served
from tests.services import RedisServer, binary

# Tests in this loop share the browser and the site.
IN_BROWSER = pytest.mark.asyncio(loop_scope="session")
PASSWORD = "correct horse battery"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

# On a loaded machine.
expect.set_options(timeout=20_000)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Account:
    id: int
    name: str
    email: str


@dataclass
class Site:
    """A served application, and the browser that visits it."""

    served: Served
    browser: Browser

    @property
    def app(self) -> Quart:
        return self.served.app

    @property
    def resources(self) -> Resources:
        return self.served.resources

    def url(self, path: str) -> str:
        return self.served.url(path)

    async def account(self, name: str = "Ada", *roles: str) -> Account:
        """A new one, with an address that no other has, and PASSWORD."""
        email = f"user{next(_numbers)}@example.com"
        user = await register_user(self.resources, email=email, name=name, password=PASSWORD, roles=roles)
        return Account(user.id, name, email)

    async def cookie(self, account: Account, *, user_agent: str = "") -> dict[str, str]:
        """That of a new session of the account's, as Playwright takes it."""
        metadata = {"ip": "192.0.2.1", "user_agent": user_agent}
        record = await self.resources.sessions.create({}, channel="cookie", user_id=account.id, metadata=metadata)
        return {"name": self.app.config["SESSION_COOKIE_NAME"], "value": record.id, "url": self.url("/")}

    @asynccontextmanager
    async def visit(
        self, path: str | None = "/", *, account: Account | None = None, expected: Sequence[str] = (), **options: Any
    ) -> AsyncIterator[Page]:
        """A tab of a fresh profile at `path` (None: empty), signed in as the account. Its end raises what went wrong.

        `expected`: parts of complaints that the test provokes. `options` are those of Playwright's new_context().
        """
        # An address of its own, so that no test counts against the limits of another.
        number = next(_numbers)
        headers = {"X-Forwarded-For": f"10.9.{number // 250}.{number % 250 + 1}"}
        chosen: Any = {"viewport": DESKTOP, "extra_http_headers": headers, "timezone_id": "Europe/Berlin"} | options
        context = await self.browser.new_context(**chosen)
        context.set_default_timeout(15_000)
        if account is not None:
            cookie = await self.cookie(account, user_agent=options.get("user_agent", ""))
            await context.add_cookies([cookie])  # type: ignore[list-item]
        complaints = Complaints(self.url("/"), list(expected))
        complaints.listen(context)
        try:
            page = await context.new_page()
            if path is not None:
                await page.goto(self.url(path))
            yield page
        finally:
            await context.close()
        unexpected = complaints.unexpected()
        assert not unexpected, unexpected


@dataclass
class Complaints:
    """Errors in the console, exceptions, violations of the policy, dialogs, and requests to other hosts."""

    base: str
    expected: list[str]
    found: list[str] = field(default_factory=list)

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._note)
        context.on("weberror", lambda error: self.found.append(str(error.error)))
        context.on("request", lambda request: self._check_host(request.url))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.text} {message.location.get('url', '')}")

    def _check_host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws") and parts.netloc != urlsplit(self.base).netloc:
            self.found.append(f"a request to {url}")

    def unexpected(self) -> list[str]:
        return [text for text in self.found if not any(part in text for part in self.expected)]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    program = binary("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS, headless=True)
        yield browser
        await browser.close()


def add_faults(app: Quart) -> None:
    """Pages that fail, each in its way."""

    async def fail(status: int) -> str:
        if status == 500:
            raise RuntimeError("<b>a defect</b>")
        raise {403: Forbidden, 404: NotFound, 503: Unavailable}[status]("<img src=x onerror=alert(1)>")

    @rate_limit("1/minute")
    async def busy() -> str:
        return "<!doctype html><html lang=en><title>Busy</title><link rel=icon href='data:,'><h1>Busy</h1>"

    app.add_url_rule("/fails/<int:status>", "fails", hide(fail))
    app.add_url_rule("/busy", "busy", hide(busy))


def site_settings(database: Path) -> dict[str, str]:
    """Tasks run; the browser's contexts are told apart by the address that they send."""
    return {
        "ENVIRONMENT": "testing",
        "DATABASE_URL": f"sqlite+aiosqlite:///{database}",
        "TRUSTED_PROXIES": "127.0.0.1",
        "ARGON2_TIME_COST": "1",
        "ARGON2_MEMORY_KIB": "8192",
    }


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(
    chromium: Browser, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """The application with all slices, on the embedded store, with what the tests have made there so far."""
    database = tmp_path_factory.mktemp("site") / "site.db"
    shutil.copy(sqlite_template, database)
    served = Served(site_settings(database))
    add_faults(served.app)
    await served.start()
    yield Site(served, chromium)
    await served.stop()


def own_site_settings(folder: Path, redis: RedisServer) -> dict[str, str]:
    return site_settings(folder / "site.db") | {"REDIS_URL": redis.url, "REDIS_BUDGET_MS": "200"}


@pytest_asyncio.fixture(loop_scope="session")
async def own_site(
    chromium: Browser, own_server: RedisServer, sqlite_template: Path, tmp_path: Path
) -> AsyncIterator[Site]:
    """A site on a server of its own, which the test stops, on a Redis that outlives it."""
    shutil.copy(sqlite_template, tmp_path / "site.db")
    served = Served(own_site_settings(tmp_path, own_server))
    await served.start()
    yield Site(served, chromium)
    await served.stop()
