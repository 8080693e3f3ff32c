"""The page that shows the API's document, with no part from another host."""

from quart import Blueprint, Response, current_app, render_template
from quart_schema import hide

from app.web.html.layout import PageLink
from app.web.limits.declare import exempt

OPENAPI = "quartet_openapi"
REASON = "the same page for everyone, made without a backend; it must also open while Redis is down"

blueprint = Blueprint("pages", __name__, template_folder="templates")
LINKS = (PageLink("/console", "Console", "admins"), PageLink("/docs", "API"))


@blueprint.get("/favicon.ico")
@hide
@exempt(REASON)
async def favicon() -> Response:
    """Browsers request this path by themselves."""
    return await current_app.send_static_file("favicon.svg")


@blueprint.get("/docs")
@hide
@exempt(REASON)
async def docs() -> str:
    return await render_template("docs.html")


@blueprint.get("/openapi.json")
@hide
@exempt(REASON)
async def openapi() -> Response:
    """The document of the API (OpenAPI 3.1), built once at the first request."""
    if OPENAPI not in current_app.extensions:
        schema = current_app.extensions["QUART_SCHEMA"].openapi_provider.schema()
        current_app.extensions[OPENAPI] = current_app.json.dumps(schema).encode()
    return Response(current_app.extensions[OPENAPI], content_type="application/json")
