"""Problem details as a page, for a browser that asks for one; every other client gets the problem details."""

from urllib.parse import quote

import msgspec
from quart import Quart, Response, g, has_request_context, render_template, request

from app.web.handshake import after_answer
from app.web.html.forms import safe_target
from app.web.identity import auth
from app.web.problems import MEDIA_TYPE

HTML = "text/html"


def register(app: Quart, *, login_path: str) -> None:
    """Answer browsers by a page. A page that needs a principal leads to `login_path`, which leads back."""

    async def as_page(response: Response) -> Response:
        if response.mimetype != MEDIA_TYPE or not has_request_context() or not wants_page():
            return response
        response.vary.add("Accept")
        if response.status_code == 401 and request.method in ("GET", "HEAD"):
            return _to_login(response, login_path)
        problem = msgspec.json.decode(await response.get_data(as_text=False))
        if "identity" not in g:
            # No view was entered, but the navigation says who is signed in.
            await auth.identify()
        response.set_data(await render_template("problem.html", problem=problem, seconds=_seconds(response)))
        response.headers["Content-Type"] = f"{HTML}; charset=utf-8"
        return response

    after_answer(app, as_page)


def wants_page() -> bool:
    """Whether the client prefers HTML, as browsers do where they open a page. One that accepts anything does not."""
    return request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", HTML]) == HTML


def _to_login(response: Response, login_path: str) -> Response:
    query = request.query_string.decode("latin-1")
    target = safe_target(f"{request.path}?{query}" if query else request.path)
    response.set_data(b"")
    response.status_code = 303
    response.headers["Location"] = f"{login_path}?next={quote(target, safe='')}"
    response.headers["Content-Type"] = f"{HTML}; charset=utf-8"
    return response


def _seconds(response: Response) -> int | None:
    """How long the client is asked to wait."""
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isdecimal() else None
