"""JSON bodies: each number is exact or refused, and none takes long."""

import json
import math
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel
from quart import Quart
from quart_schema import QuartSchema

from app.web.guard import GuardedQuart
from app.web.middleware.strict_json import StrictJSONProvider


class Point(BaseModel):
    x: int


json_provider = StrictJSONProvider(Quart(__name__))
DIGITS = st.text(alphabet="0123456789", min_size=1, max_size=40)
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers().map(str),
    st.tuples(DIGITS, st.integers(-400, 400)).map(lambda parts: f"1.{parts[0]}e{parts[1]}"),
)


@given(NUMBERS)
@example("1e300")
@example("1e400")
@example("-0.0")
@example("2.22507385850720113605740979670913197593481954635164564e-308")
def test_a_number_is_exact_or_refused(text: str) -> None:
    expected = json.loads(text)
    if isinstance(expected, float) and math.isinf(expected):
        with pytest.raises(ValueError, match="range"):
            json_provider.loads(f"[{text}]")
        return
    [number] = json_provider.loads(f"[{text}]")
    assert (number, str(number)) == (expected, str(expected))


def seconds(decode: Any, text: str) -> float:
    began = time.process_time()
    decode(text)
    return time.process_time() - began


@pytest.mark.parametrize(
    "number", ["1e300", "4.9e-324", "1.2345678901234567891e-290", "0.1", "1" * 300, "0." + "1" * 700]
)
def test_no_number_takes_long(number: str) -> None:
    """Against the standard library, which takes as long for each number."""
    text = "[" + ",".join([number] * (300_000 // len(number))) + "]"
    theirs = min(seconds(json.loads, text) for _ in range(3))
    assert min(seconds(json_provider.loads, text) for _ in range(3)) < 10 * theirs + 0.01


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ([{"x": 1}], b'[{"x":1}]'),
        ([Point(x=1)], b'[{"x":1}]'),
        ({"points": (Point(x=1), Point(x=2))}, b'{"points":[{"x":1},{"x":2}]}'),
        (Point(x=1), b'{"x":1}'),
        (({"x": 1}, 200, {"X-Own": "kept"}), b'{"x":1}'),
    ],
)
async def test_models_are_answers_alone_and_within_others(answer: Any, body: bytes) -> None:
    app = GuardedQuart(__name__)
    QuartSchema(app)
    app.json = StrictJSONProvider(app)
    app.convert_models_only()

    @app.get("/")
    async def view() -> Any:
        return answer

    response = await app.test_client().get("/")
    assert response.content_type == "application/json"
    assert (await response.get_data(as_text=False)).strip() == body
