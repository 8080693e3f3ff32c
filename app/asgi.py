"""The application that Hypercorn loads: `hypercorn -c hypercorn.toml app.asgi:app`."""

import sys

from app import logs
from app.factory import create_app
from app.serving.plain import harden
from app.settings import SettingsError, load_settings
from app.tracing import trace_fields
from app.web.middleware.request_log import log_fields

try:
    settings = load_settings()
    app = create_app(settings)
except SettingsError as error:
    # As the command does it; a traceback would hide the line.
    sys.stderr.write(f"{error.shown()}\n")
    sys.exit(2)
logs.configure(settings.log_level, is_production=settings.is_production, fields=(log_fields, trace_fields))
harden(app)
