"""Quart adapters over the kit, and the accessor of the running application's resources."""

from quart import current_app

from app.resources import Resources

EXTENSION = "quartet"


def resources() -> Resources:
    """What the lifespan of the current application opened."""
    found: Resources = current_app.extensions[EXTENSION]
    return found
