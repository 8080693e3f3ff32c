"""The token of a password reset: signed, valid for an hour, and for the password that it replaces alone."""

from dataclasses import dataclass
from hashlib import sha256

from itsdangerous import BadData, URLSafeTimedSerializer

from app.kit.keys import digest

RESET_SECONDS = 3600
# A longer text is no token, and costs no hash.
LONGEST_TOKEN = 512


@dataclass(frozen=True, slots=True)
class ResetToken:
    """`fingerprint`: of the address and the password when it was made. A change of either ends the token."""

    user_id: int
    fingerprint: str


def make_reset_token(user_id: int, *, fingerprint: str, secret_key: str) -> str:
    return _serializer(secret_key).dumps([user_id, fingerprint])


def read_reset_token(token: str, *, secret_key: str) -> ResetToken | None:
    """None for a text that is no token, or one of more than an hour ago."""
    if len(token) > LONGEST_TOKEN:
        return None
    try:
        user_id, fingerprint = _serializer(secret_key).loads(token, max_age=RESET_SECONDS)
    except BadData:
        return None
    return ResetToken(user_id, fingerprint)


def fingerprint_of(email: str, password_hash: str) -> str:
    """A digest, since the token must not show the hash."""
    return digest(f"{email}\0{password_hash}")


def _serializer(secret_key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(secret_key, salt="quartet.password-reset", signer_kwargs={"digest_method": sha256})
