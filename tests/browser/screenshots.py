"""Screenshots of the pages with demo data, on a desktop and on a phone, light and dark: `make screenshots`."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Page, ViewportSize, async_playwright

from app.domain.seed import seed
from app.migrations import upgrade
from app.resources import Resources
from tests.browser.every_path import find_paths
from tests.browser.test_console import unknown
from tests.browsing import DESKTOP, PHONE, Account, Site, add_faults, site_settings
from tests.clients.chromium import ARGUMENTS
from tests.served import Served
from tests.services import binary
from tests.waiting import eventually

FOLDER = Path("var/screenshots")
# Those of the README, by the names that they have there: of few colours, so that they are small.
SHOWN = {
    "news": "front-desktop-light",
    "console": "console-desktop-dark",
    "inbox": "inbox-desktop-light",
    "phone": "front-phone-dark",
}
IMAGES = Path("docs/images")
ERRORS = {f"error-{status}": f"/fails/{status}" for status in (403, 404, 500, 503)} | {"error-429": "/busy"}
SIZES: dict[str, ViewportSize] = {"desktop": DESKTOP, "phone": PHONE}


async def main(folder: Path, only: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "screenshots.db"
        await asyncio.to_thread(upgrade, f"sqlite+aiosqlite:///{database}")
        served = Served(site_settings(database))
        add_faults(served.app)
        await served.start()
        try:
            async with async_playwright() as playwright:
                program = binary("chromium")
                browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS, headless=True)
                await _take_all(Site(served, browser), folder, only)
        finally:
            await served.stop()


async def _take_all(site: Site, folder: Path, only: str) -> None:
    users = await seed(site.resources)
    [admin] = [Account(user.id, "Ada Admin", user.email) for user in users if "admin" in user.roles]
    await eventually(lambda: _is_idle(site.resources), seconds=120)
    await _do_something(site, admin)
    paths = {_name(rule): path for rule, path in (await find_paths(site, admin)).items()} | ERRORS
    for scheme in ("light", "dark"):
        for size, viewport in SIZES.items():
            look: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme}
            async with site.visit(None, account=admin, expected=list(ERRORS.values()), **look) as page:
                for name, path in paths.items():
                    if only in name:
                        await _take(page, site.url(path), folder / f"{name}-{size}-{scheme}.png")


def _name(rule: str) -> str:
    return rule.strip("/").translate(str.maketrans("/:", "--", "<>")) or "front"


async def _do_something(site: Site, admin: Account) -> None:
    """What fills the pages: a cart, a report, a dead task."""
    await site.resources.queue.submit([unknown.call(f"order {number}") for number in range(3)])
    async with site.visit("/products", account=admin) as page:
        for number in range(3):
            await page.goto(site.url("/products"))
            await page.locator(".cards a").nth(number).click()
            await page.get_by_role("button", name="Add to the cart").click()
        await page.goto(site.url("/reports"))
        await page.get_by_role("button", name="Make the report").click()
        await page.get_by_role("link", name="Download CSV").wait_for()
    await site.account("Ben Bakker")


async def _take(page: Page, url: str, file: Path) -> None:
    await page.goto(url)
    if url.endswith("/busy") and not await page.locator("[data-countdown]").count():
        # The first request is admitted.
        await page.reload()
    await page.wait_for_load_state("load")
    if await page.locator("[data-connection]").count():
        await page.locator("[data-state=live]").first.wait_for()
    if await page.locator("[data-charts]").count():
        await eventually(lambda: page.evaluate("document.querySelector('polyline').points.length > 4"), seconds=30)
    if await page.locator("[aria-busy=true]").count():
        await page.locator("[aria-busy=false]").first.wait_for()
    await page.screenshot(path=file, animations="disabled")


async def _is_idle(resources: Resources) -> bool:
    depth = await resources.queue.depth()
    return not (depth["high"] or depth["normal"] or depth["low"] or depth["running"])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    asyncio.run(main(FOLDER, only))
    for name, taken in SHOWN.items():
        if only in taken:
            with Image.open(FOLDER / f"{taken}.png") as image:
                image.convert("RGB").quantize(64).save(IMAGES / f"{name}.png", optimize=True)
