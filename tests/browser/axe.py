"""The rules of axe-core on a page."""

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

OPTIONS = {"resultTypes": ["violations"]}


async def violations(page: Page) -> list[str]:
    """A line for each rule that is violated, with the first element that does."""
    found = await Axe().run(page, options=OPTIONS)
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found.response["violations"]]
