"""What schemathesis loads: each request comes from an address of its own, with a session that lives.

Only so do the requests reach the views: requests end sessions and delete accounts, and an address is limited.
"""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import schemathesis

HEADER = "X-Session-ID"
IDEMPOTENCY = "Idempotency-Key"
VALID_KEY = re.compile(r"[\x21-\x7e]{1,240}")
_SESSIONS = iter(Path(os.environ["SESSIONS_FILE"]).read_text().split())
_current = next(_SESSIONS)
_numbers = itertools.count()


@schemathesis.auth(refresh_interval=None)
class LivingSession(schemathesis.AuthProvider[str]):
    def get(self, case: Any, context: Any) -> str:
        return _current

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), HEADER: data}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    number = next(_numbers)
    high, low = divmod(number, 256)
    added = {"X-Forwarded-For": f"10.{high >> 8}.{high & 255}.{low}"}
    key = str((case.headers or {}).get(IDEMPOTENCY, ""))
    if VALID_KEY.fullmatch(key):
        # The answer to a repeat may name what was deleted since.
        added[IDEMPOTENCY] = f"{key}{number}"
    case.headers = {**(case.headers or {}), **added}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    global _current
    if response.status_code == 401 and (case.headers or {}).get(HEADER) == _current:
        _current = next(_SESSIONS)
