"""The types of the settings, with error messages that never repeat a value."""

import ipaddress
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

REDIS_SCHEMES = (
    "memory",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
# A name or an IPv4 address, or an IPv6 address in brackets.
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])"
DATABASE_SCHEMES = ("sqlite+aiosqlite", "postgresql+asyncpg")


def _scheme_in(schemes: tuple[str, ...]) -> AfterValidator:
    def check(url: str) -> str:
        if url.split(":", 1)[0] not in schemes:
            # The URL itself may hold a password, so the message never repeats it.
            raise ValueError(f"must start with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
        return url

    return AfterValidator(check)


def _address(value: str) -> str:
    if value.startswith("unix:") or re.fullmatch(r"fd://\d{1,6}", value):
        return value
    found = re.fullmatch(rf"{_HOST}:(\d{{1,5}})", value)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("must be host:port with a port from 1 to 65535, unix:/a/path, or fd://number")
    return value


def _database(url: str) -> str:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # Its text would repeat the URL, and so the password.
        raise ValueError("is not a database URL: a part of it, such as the port, cannot be read") from error
    if not 0 < (5432 if parsed.port is None else parsed.port) < 65536:
        raise ValueError("must have a port from 1 to 65535")
    if parsed.drivername.startswith("sqlite") and parsed.database in {None, "", ":memory:"}:
        raise ValueError("must name a file: each connection to an in-memory SQLite has a database of its own")
    return url


def _smtp(url: str) -> str:
    found = re.fullmatch(rf"(smtp|smtp\+starttls|smtps)://(?:[^@/]+@)?{_HOST}(?::(\d{{1,5}}))?/?", url)
    if found is None or not 0 < int(found[2] or 25) < 65536:
        raise ValueError("must be smtp://host, smtp+starttls://user:password@host or smtps://user:password@host")
    if found[1] == "smtp" and "@" in url:
        raise ValueError("would send the password in the clear: smtp+starttls:// and smtps:// encrypt")
    return url


def _email_address(value: str) -> str:
    # The address alone, which may be of a host of this network.
    if not re.fullmatch(r"[!#-'*+/-9=?A-Z^-~.-]{1,64}@[A-Za-z0-9.-]{1,255}", value):
        raise ValueError("must be an email address and nothing else")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(_HOST, value):
        raise ValueError("must be the name or the address of a host (an IPv6 address in brackets) and nothing else")
    return value


def _hosts(value: str) -> str:
    hosts = [part.strip() for part in value.split(",") if part.strip()]
    if not hosts or not all(re.fullmatch(rf"{_HOST}(:\d{{1,5}})?", host) for host in hosts):
        raise ValueError("must be host:port of each, separated by commas (an IPv6 address in brackets)")
    return ",".join(hosts)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError("must be networks or addresses, as 10.0.0.0/8, separated by commas") from error


def _namespace(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value):
        raise ValueError("must be 1 to 32 of a-z, 0-9, - and _")
    return value


def _queue(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value):
        raise ValueError("must be names of 1 to 32 of a-z, 0-9, - and _")
    return value


def _cross_origin(value: str) -> str:
    if value != "*" and not re.fullmatch(rf"https?://{_HOST}(:\d{{1,5}})?", value):
        raise ValueError("must be origins, as https://app.example.com without a path, or *")
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", value):
        raise ValueError("must be names of headers")
    return value


# NoDecode: lists are separated by commas, where pydantic-settings would expect JSON.
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)]
QueueNames = Annotated[tuple[Annotated[str, AfterValidator(_queue)], ...], NoDecode, BeforeValidator(_split)]
CorsOrigins = Annotated[tuple[Annotated[str, AfterValidator(_cross_origin)], ...], NoDecode, BeforeValidator(_split)]
HeaderNames = Annotated[tuple[Annotated[str, AfterValidator(_header)], ...], NoDecode, BeforeValidator(_split)]
AnyCase = BeforeValidator(_lower)
Address = Annotated[str, AfterValidator(_address)]
OptionalAddress = Annotated[str, AfterValidator(lambda value: _address(value) if value else value)]
Host = Annotated[str, AfterValidator(_host)]
OptionalHost = Annotated[str, AfterValidator(lambda value: _host(value) if value else value)]
Hosts = Annotated[str, AfterValidator(_hosts)]
Origin = Annotated[str, Field(pattern=rf"^https?://{_HOST}(:\d{{1,5}})?$")]
EndpointURL = Annotated[str, Field(pattern=rf"^(https?://{_HOST}(:\d{{1,5}})?(/[^\s?#]*)?)?$")]
Namespace = Annotated[str, AfterValidator(_namespace)]
RedisURL = Annotated[str, _scheme_in(REDIS_SCHEMES)]
DatabaseURL = Annotated[str, _scheme_in(DATABASE_SCHEMES), AfterValidator(_database)]
SmtpURL = Annotated[str, AfterValidator(_smtp)]
EmailAddress = Annotated[str, AfterValidator(_email_address)]
