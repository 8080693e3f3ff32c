"""The application of the general tests: the service with its slices, and one of the tests' own beside them."""

from collections.abc import Mapping

from quart import Quart

from app.domain.slices import SLICES
from app.factory import create_app
from app.settings import load_settings
from tests.notices import SLICE as NOTICES

ALL_SLICES = (*SLICES, NOTICES)


def create_test_app(environ: Mapping[str, str]) -> Quart:
    return create_app(load_settings(environ), slices=ALL_SLICES)
