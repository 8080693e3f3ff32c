"""The cache tags of accounts."""

# On cached values that name accounts: they are invalidated when an account is deleted.
ACCOUNTS_TAG = "accounts"


def user_tag(user_id: int) -> str:
    """On all cached values of a user."""
    return f"user:{user_id}"


def key_tag(key_hash: str) -> str:
    """On the cached owner of an API key."""
    return f"api-key:{key_hash}"
