import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection
from redis.exceptions import DataError

from app.kit.client.commands import TRAITS, traits_of
from app.kit.client.pending import Encodable, pack

values = st.one_of(
    st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.binary().map(bytearray), st.just("ключ")
)


@given(st.lists(values, max_size=6))
def test_commands_are_packed_as_the_plain_client_packs_them(args: list[Encodable]) -> None:
    plain = b"".join(bytes(part) for part in Connection().pack_command("SET", *map(_plain, args)))
    assert pack(["SET", *args]) == plain


def _plain(value: Encodable) -> Encodable:
    """The plain client refuses bytearray; its bytes are what is meant."""
    return bytes(value) if isinstance(value, bytearray) else value


def test_a_name_of_several_words_is_sent_as_several() -> None:
    assert pack(["SCRIPT LOAD", "x"]) == pack(["SCRIPT", "LOAD", "x"])


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}])
def test_what_redis_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(DataError):
        pack(["SET", "key", value])  # type: ignore[list-item]


def test_the_table_of_commands_says_what_the_functions_say() -> None:
    for name, traits in TRAITS.items():
        assert traits == traits_of((name, "key", "value")), name
        assert not traits.dedicated
