"""An installed Chromium with a fresh profile, driven by Playwright."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.services import binary

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def opened_page(url: str, *, profile: Path) -> AsyncIterator[Page]:
    """A tab at `url`."""
    program = binary("chromium")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=program, args=ARGUMENTS, headless=True, ignore_https_errors=True
        )
        try:
            page = await context.new_page()
            await page.goto(url)
            yield page
        finally:
            await context.close()
