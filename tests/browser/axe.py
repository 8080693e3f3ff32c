"""The rules of axe-core on a page."""

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page


async def violations(page: Page, *rules: str) -> list[str]:
    """A line for each rule that is violated, with the first element that does. Without `rules`: of all."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = await Axe().run(page, options=options)
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found.response["violations"]]
