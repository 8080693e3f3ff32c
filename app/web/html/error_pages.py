"""Problem details as a page, for a browser that asks for one; every other client gets the problem details."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec
from quart import Response, g, render_template, request

from app.web.html.forms import safe_target
from app.web.identity import auth
from app.web.problems import MEDIA_TYPE

HTML = "text/html"


def problem_page(*, login_path: str) -> Callable[[Response], Awaitable[None]]:
    """Makes problem details a page for browsers. A page that needs a principal leads to `login_path`, and back."""

    async def as_page(response: Response) -> None:
        if not wants_page():
            return
        response.vary.add("Accept")
        if response.status_code == 401 and request.method in ("GET", "HEAD"):
            _to_login(response, login_path)
            return
        problem = msgspec.json.decode(await response.get_data(as_text=False))
        if "identity" not in g:
            # No view was entered, but the navigation says who is signed in.
            await auth.identify()
        kept = g.get("kept_fields", {})
        page = await render_template("problem.html", problem=problem, seconds=_seconds(response), kept=kept)
        response.set_data(page)
        response.headers["Content-Type"] = f"{HTML}; charset=utf-8"

    return as_page


def wants_page() -> bool:
    """Whether the client prefers HTML, as browsers do where they open a page. One that accepts anything does not."""
    return request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", HTML]) == HTML


def _to_login(response: Response, login_path: str) -> None:
    query = request.query_string.decode("latin-1")
    target = safe_target(f"{request.path}?{query}" if query else request.path)
    response.set_data(b"")
    response.status_code = 303
    response.headers["Location"] = f"{login_path}?next={quote(target, safe='')}"
    response.headers["Content-Type"] = f"{HTML}; charset=utf-8"


def _seconds(response: Response) -> int | None:
    """How long the client is asked to wait."""
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isdecimal() else None
