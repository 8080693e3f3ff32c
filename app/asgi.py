"""The application that Hypercorn loads: `hypercorn -c hypercorn.toml app.asgi:app`."""

from app import logs
from app.factory import create_app
from app.serving.plain import harden
from app.settings import load_settings
from app.tracing import trace_fields
from app.web.middleware.request_log import log_fields

settings = load_settings()
logs.configure(settings.log_level, is_production=settings.is_production, fields=(log_fields, trace_fields))
app = create_app(settings)
harden(app)
