"""The page of the last requests, with their Redis commands and statements. create_app() has it in development alone."""

from quart import Blueprint, Quart, current_app, render_template
from quart_schema import hide

from app.kit.client.observed import observe_commands
from app.resources import Resources
from app.web.limits.declare import exempt
from app.web.recording import Recorder

RECORDER = "quartet_recorder"
PREFIX = "/development"
# Of these there are many, and they ask nothing.
SKIPPED = (PREFIX, "/static/")

blueprint = Blueprint("development", __name__, template_folder="templates", url_prefix=PREFIX)


def register(app: Quart) -> None:
    """Add the page, and record what is asked of the application."""
    recorder = Recorder(skips=SKIPPED)
    app.extensions[RECORDER] = recorder
    app.register_blueprint(blueprint)
    app.asgi_app = recorder.around_requests(app.asgi_app)  # type: ignore[method-assign, assignment]


def observe(app: Quart, resources: Resources) -> None:
    """Record what its requests ask of these, where register() was called."""
    recorder: Recorder | None = app.extensions.get(RECORDER)
    if recorder is None:
        return
    for client in {resources.redis, resources.cache_redis}:
        observe_commands(client, recorder.observe_command)
    for engine in resources.database.engines():
        recorder.observe_statements(engine)


@blueprint.get("/requests")
@hide
@exempt("for the developer alone; it asks no backend")
async def requests() -> str:
    recorder: Recorder = current_app.extensions[RECORDER]
    return await render_template("requests.html", requests=list(recorder.requests))
