"""What every page shows beside its own content: the navigation, who is signed in, flashed messages, times, numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from markupsafe import Markup
from quart import Quart, current_app, g, get_flashed_messages

from app.errors import AppError
from app.principal import Principal
from app.web.identity.auth import current_principal_or_none
from app.web.identity.browser_session import current_browser_session

_LINKS = "quartet_page_links"
# The first that matches counts: most browsers name others, too.
_BROWSERS = (("Edg", "Edge"), ("Firefox", "Firefox"), ("Chrom", "Chrome"), ("Safari", "Safari"), ("curl", "curl"))
_SYSTEMS = (
    *(("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows")),
    *(("Mac OS", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux")),
)


@dataclass(frozen=True, slots=True)
class PageLink:
    """A link of the navigation, and who sees it: everyone, users who are signed in, or admins."""

    path: str
    text: str
    seen_by: Literal["everyone", "users", "admins"] = "everyone"
    covers: tuple[str, ...] = ()
    """Other paths whose pages, and those below them, belong to the link."""

    def leads_to(self, path: str) -> bool:
        """Whether the page at `path` is the link's, one below it, or one that it covers."""
        roots = [each for each in (self.path, *self.covers) if each != "/"]
        return path == self.path or any(path == root or path.startswith(f"{root}/") for root in roots)


def register(app: Quart, links: Sequence[PageLink]) -> None:
    """Give the templates `principal`, `links`, `flashed()`, `session_unknown`, and the filters moment and number."""
    # The front page stands first, whichever slice has it.
    app.extensions[_LINKS] = tuple(sorted(links, key=lambda link: link.path != "/"))
    app.context_processor(_context)
    app.add_template_filter(moment_tag, "moment")
    app.add_template_filter(number_tag, "number")
    app.add_template_filter(device_name)


def moment_tag(moment: datetime | float) -> Markup:
    """A time in UTC, which a script of the page shows in the reader's zone. A number is epoch seconds."""
    given = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    text = f"{given.day} {given:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(given.isoformat(timespec="seconds"), text)


def number_tag(number: float) -> Markup:
    """A number, which a script of the page shows as the reader's language writes it."""
    return Markup('<data value="{}">{}</data>').format(number, f"{number:,}")


def device_name(user_agent: str) -> str:
    """A browser and its system, as far as a User-Agent tells them; else its beginning."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return " on ".join(filter(None, (browser, system))) or user_agent[:60] or "Unknown device"


def _context() -> dict[str, Any]:
    browser = current_browser_session()
    principal = _principal()
    return {
        "principal": principal,
        "links": [link for link in current_app.extensions[_LINKS] if _is_seen(link, principal)],
        "flashed": _flashed,
        # While Redis is down it is not known whether this browser is signed in.
        "session_unknown": browser is not None and browser.state == "down",
        # Of a page with @live_page.
        "events_after": g.get("events_after"),
        "is_development": bool(current_app.config.get("QUARTET_DEVELOPMENT")),
    }


def _principal() -> Principal | None:
    try:
        return current_principal_or_none()
    except AppError:
        # A bad credential in a header: the page says what is wrong with it.
        return None


def _is_seen(link: PageLink, principal: Principal | None) -> bool:
    if link.seen_by == "everyone" or principal is None:
        return link.seen_by == "everyone"
    return link.seen_by == "users" or principal.is_admin


def _flashed() -> list[tuple[str, str]]:
    browser = current_browser_session()
    if browser is None or browser.state != "open" or browser.record is None:
        return []
    found: Any = get_flashed_messages(with_categories=True)
    return list(found)
