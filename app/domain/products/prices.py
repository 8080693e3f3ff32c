"""Prices: decimal strings outside, whole hundredths inside, so that sums are exact."""

# At most 9,999,999.99; no sign, no exponent, no leading zeros.
PRICE_PATTERN = r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,2})?$"


def to_cents(price: str) -> int:
    """The hundredths of a price that matches PRICE_PATTERN."""
    whole, _, hundredths = price.partition(".")
    return int(whole) * 100 + int(hundredths.ljust(2, "0"))


def to_price(cents: int) -> str:
    """A decimal string with two decimals."""
    whole, hundredths = divmod(cents, 100)
    return f"{whole}.{hundredths:02}"
