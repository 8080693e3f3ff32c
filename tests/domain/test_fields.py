"""What the fields of requests accept: names that can be seen, and numbers with one spelling."""

import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.domain.fields import Body, Name
from app.errors import Invalid

generated = settings(max_examples=300, deadline=None, derandomize=True, database=None)
name = TypeAdapter[str](Name)
# Zero-width characters, bidirectional controls, fillers, variation selectors, tags, white space of every width.
UNSEEN = (
    "\u200b\u200c\u200d\u2060\ufeff\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u00ad\u034f"
    "\u115f\u1160\u17b4\u17b5\u180e\u2800\u3164\uffa0\ufe0f\U000e0001\U000e0041\U0001d173\u2028\u2029\u00a0\u3000 "
)


REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def is_valid(text: str) -> bool:
    try:
        name.validate_python(text)
    except ValidationError:
        return False
    return True


@given(st.text(alphabet=UNSEEN, min_size=1, max_size=20))
@example("\u200b")
@example("\u202e\u202c")
@generated
def test_a_name_that_cannot_be_seen_is_refused(text: str) -> None:
    assert not is_valid(text)


@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Cn", "Co"]), max_size=20))
@generated
def test_no_character_of_an_unseen_category_makes_a_name(text: str) -> None:
    assert not is_valid(text)


@given(
    st.text(alphabet=sorted(set(UNSEEN) - set(REORDERING) - set("\u2028\u2029")), max_size=5),
    st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd", "Sc"]), min_size=1, max_size=20),
)
@example("\u200f", "אב")
@example("", "👩\u200d🚀")
@example("", "क्ष")
@generated
def test_what_can_be_seen_makes_a_name(unseen: str, text: str) -> None:
    """Right-to-left marks and joiners belong to some scripts' own spelling."""
    assert is_valid(unseen + text)


@given(st.text(max_size=10), st.characters(categories=["Cc"]))
@generated
def test_a_name_has_no_control_characters(text: str, control: str) -> None:
    """A line break in a name would begin another header of a mail, or another line of a log."""
    assert unicodedata.category(control) == "Cc"
    assert not is_valid(f"a{text}{control}b")


@pytest.mark.parametrize("character", [*REORDERING, "\u2028", "\u2029"])
def test_a_name_is_one_line_and_does_not_reorder_what_stands_after_it(character: str) -> None:
    assert not is_valid(f"Ada{character}Lovelace")


@pytest.mark.parametrize("text", ["", " ", "x" * 101])
def test_a_name_has_a_length(text: str) -> None:
    assert not is_valid(text)


def test_unknown_fields_take_little_more_than_their_names() -> None:
    class Small(Body):
        name: Name

    def seconds(work: Callable[[], object]) -> float:
        began = time.process_time()
        with suppress(Invalid):
            work()
        return time.process_time() - began

    data = {f"field{number}": 1 for number in range(50_000)}
    names = min(seconds(lambda: [name for name in data if name not in {"name": 1}]) for _ in range(5))
    assert min(seconds(lambda: Small.model_validate(data)) for _ in range(5)) < 6 * names
