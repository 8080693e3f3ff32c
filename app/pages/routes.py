"""The page that shows the API's document to people. Its script and style come from /static: no other host is asked."""

from quart import Blueprint, render_template
from quart_schema import hide

from app.web.rate_limit import exempt

blueprint = Blueprint("pages", __name__, template_folder="templates")


@blueprint.get("/docs")
@hide
@exempt("the same page for everyone, made without a backend; it must also open while Redis is down")
async def docs() -> str:
    return await render_template("docs.html")
