"""The front page of a service whose slices have none."""

from quart import Blueprint, redirect, url_for
from quart.typing import ResponseReturnValue
from quart_schema import hide

from app.web.limits.declare import exempt

blueprint = Blueprint("front", __name__)


@blueprint.get("/")
@hide
@exempt("it leads to the page of the API's document, and is made without a backend")
async def front() -> ResponseReturnValue:
    return redirect(url_for("pages.docs"))
