"""The application of the general tests: the service with its slices, and one of the tests' own beside them."""

from collections.abc import Mapping

from quart import Quart

from app.domain.slices import SLICES
from app.factory import create_app
from app.settings import load_settings
from tests.notices import SLICE as NOTICES

ALL_SLICES = (*SLICES, NOTICES)
# A hash of the least cost: most tests have an account, and few are about its password.
CHEAP_PASSWORDS = {"ARGON2_TIME_COST": "1", "ARGON2_MEMORY_KIB": "8"}
# On a loaded machine a Redis that is well may answer late. Tests of one that does not answer set their own.
PATIENT = {"REDIS_BUDGET_MS": "5000"}


def create_test_app(environ: Mapping[str, str]) -> Quart:
    return create_app(load_settings(CHEAP_PASSWORDS | PATIENT | dict(environ)), slices=ALL_SLICES)
