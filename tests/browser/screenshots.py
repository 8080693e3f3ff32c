"""Screenshots of the pages with demo data, on a desktop and on a phone, light and dark: `make screenshots`."""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, ViewportSize, async_playwright

from app.domain.seed import seed
from app.migrations import upgrade
from app.resources import Resources
from tests.browser.every_path import find_paths
from tests.browsing import DESKTOP, PHONE, Account, Site, site_settings
from tests.clients.chromium import ARGUMENTS
from tests.served import Served
from tests.services import binary
from tests.waiting import eventually

FOLDER = Path("var/screenshots")
SIZES: dict[str, ViewportSize] = {"desktop": DESKTOP, "phone": PHONE}


async def main(folder: Path, only: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        database = Path(place) / "screenshots.db"
        await asyncio.to_thread(upgrade, f"sqlite+aiosqlite:///{database}")
        served = Served(site_settings(database))
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
    paths = await find_paths(site, admin)
    for scheme in ("light", "dark"):
        for size, viewport in SIZES.items():
            async with site.visit("/health", account=admin, viewport=viewport, color_scheme=scheme) as page:
                for rule, path in paths.items():
                    name = (
                        rule.strip("/").replace("/", "-").replace("<", "").replace(">", "").replace(":", "-") or "front"
                    )
                    if only in name:
                        await _take(page, site.url(path), folder / f"{name}-{size}-{scheme}.png")


async def _take(page: Page, url: str, file: Path) -> None:
    await page.goto(url)
    await page.wait_for_load_state("load")
    if await page.locator("[data-connection]").count():
        await page.locator("[data-state=live]").first.wait_for()
    if await page.locator("[aria-busy=true]").count():
        await page.locator("[aria-busy=false]").first.wait_for()
    await page.screenshot(path=file, animations="disabled")


async def _is_idle(resources: Resources) -> bool:
    depth = await resources.queue.depth()
    return not (depth["high"] or depth["normal"] or depth["low"] or depth["running"])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(FOLDER, sys.argv[1] if len(sys.argv) > 1 else ""))
