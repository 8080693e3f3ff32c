"""The errors a service raises. Each class carries its HTTP status and code; one handler in web renders them."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_LISTED = 20


class AppError(Exception):
    """An error with an HTTP status (RFC 9457's `status`), a stable `code`, and a `title` for people."""

    status: int = 500
    code: str = "internal"
    title: str = "Internal Server Error"
    type: str = "about:blank"

    def __init__(
        self,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def root_cause(error: BaseException) -> BaseException:
    """The error at the end of the chain of causes: the driver's own, behind those that translate it.

    Of a chain that goes round, the last before it does.
    """
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


class BadRequest(AppError):
    status, code, title = 400, "bad_request", "Bad Request"


class Unauthorized(AppError):
    """No or invalid credentials. `challenge` is the value of WWW-Authenticate (RFC 9110, 11.6.1)."""

    status, code, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, detail: str = "", *, challenge: str = 'Bearer realm="quartet"') -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(AppError):
    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(AppError):
    status, code, title = 404, "not_found", "Not Found"


class Conflict(AppError):
    status, code, title = 409, "conflict", "Conflict"


class PreconditionFailed(AppError):
    status, code, title = 412, "precondition_failed", "Precondition Failed"


class TooLarge(AppError):
    status, code, title = 413, "too_large", "Content Too Large"


class URITooLong(AppError):
    status, code, title = 414, "uri_too_long", "URI Too Long"


class UnsupportedMediaType(AppError):
    status, code, title = 415, "unsupported_media_type", "Unsupported Media Type"


class Invalid(AppError):
    """A body or query that does not validate. `errors` holds {"loc": [...], "msg": "..."} for each field.

    At most MOST_LISTED are listed; `more_errors` is how many more there are, `more` that are not in `errors` included.
    """

    status, code, title = 422, "invalid", "Unprocessable Content"

    def __init__(self, errors: Sequence[Mapping[str, Any]], *, more: int = 0) -> None:
        more += max(0, len(errors) - MOST_LISTED)
        counted = {"more_errors": more} if more else {}
        super().__init__("The request does not validate.", extra={"errors": list(errors[:MOST_LISTED]), **counted})


class TooManyRequests(AppError):
    status, code, title = 429, "rate_limited", "Too Many Requests"
    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class HeadersTooLarge(AppError):
    status, code, title = 431, "headers_too_large", "Request Header Fields Too Large"


class Unavailable(AppError):
    """A backend that the response needs is down. `retry_after_seconds` goes into Retry-After."""

    status, code, title = 503, "unavailable", "Service Unavailable"

    def __init__(self, detail: str = "", *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})
