"""The application that Hypercorn loads: `hypercorn -c hypercorn.toml app.asgi:app`."""

from app.factory import create_app
from app.settings import load_settings

app = create_app(load_settings())
