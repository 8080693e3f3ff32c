"""A path of each page of a served application, found by following the links as an admin."""

from urllib.parse import urlsplit

from quart import Quart

from tests.browsing import Account, Site

# Pages that no link leads to: the one of a mail, and the one that asks before a logout.
UNLINKED = ("/login", "/password-reset/confirm", "/logout")
NOT_HTML = ("/api/", "/static/", "/health", "/metrics", "/openapi.json", "/favicon.ico", "/fails/", "/busy")


def pages_of(app: Quart) -> set[str]:
    """The rules of all pages that a browser opens, but for those of one thing each, of which there may be none."""
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.websocket]
    return {rule.rule for rule in rules if not rule.rule.startswith(NOT_HTML) and not rule.arguments}


async def find_paths(site: Site, admin: Account) -> dict[str, str]:
    """By their rules, the front page first."""
    found: dict[str, str] = {}
    waiting = ["/", *UNLINKED]
    adapter = site.app.url_map.bind("localhost")
    async with site.visit(None, account=admin) as page:
        while waiting:
            path = waiting.pop(0)
            rule = adapter.match(urlsplit(path).path, return_rule=True)[0].rule
            if rule in found or rule.startswith(NOT_HTML):
                continue
            found[rule] = path
            answer = await page.goto(site.url(path))
            assert answer is not None
            assert answer.status == 200, (path, await answer.text())
            links = await page.evaluate("[...document.links].map((link) => link.pathname + link.search)")
            waiting += [link for link in links if link.startswith("/")]
    return found
