"""The application that Hypercorn loads: `hypercorn -c hypercorn.toml app.asgi:app`."""

from app.factory import create_app
from app.server import harden
from app.settings import load_settings
from app.web.middleware.request_log import configure_logging

settings = load_settings()
configure_logging(settings.log_level)
app = create_app(settings)
harden(app)
