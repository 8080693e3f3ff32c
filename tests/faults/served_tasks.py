"""The service with tasks that its tests stop it in: an application for Hypercorn, or served as `quartet serve` does."""

from quart import Blueprint

from app.domain.slice import Slice
from app.domain.slices import SLICES
from app.factory import create_app
from app.serving.engine import serve_one
from app.settings import load_settings
from tests.faults.tasks import ENDLESS, SHORT
from tests.notices import SLICE as NOTICES

settings = load_settings()
app = create_app(
    settings, slices=(*SLICES, NOTICES, Slice(blueprint=Blueprint("served", __name__), tasks=(*SHORT, *ENDLESS)))
)

if __name__ == "__main__":
    serve_one(app, settings)
