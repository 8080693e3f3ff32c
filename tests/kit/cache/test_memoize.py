"""@memoize: which calls share a result, which tags it has, and what deletes it."""

import datetime
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from app.kit.cache.cache import Cache
from app.kit.cache.memoize import delete_memoized, memoize
from app.kit.keys import Keys
from tests.waiting import eventually


@dataclass(frozen=True)
class Services:
    """Stands for Resources: what a service gets as its first argument."""

    cache: Cache


class Article(msgspec.Struct):
    id: int
    author: str
    at: datetime.datetime


@pytest.fixture
def services(redis: Redis, keys: Keys) -> Services:
    return Services(Cache(redis, keys))


class Calls(list[Any]):
    """What the functions under test were called with."""


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def test_positional_keyword_and_default_arguments_share_a_result(services: Services, calls: Calls) -> None:
    @memoize(ttl_seconds=60)
    async def total(services: Services, /, a: int, b: int = 2, *more: int, scale: int = 1, **names: int) -> int:
        """Adds."""
        calls.append((a, b, more, scale, names))
        return a + b

    assert [
        await total(services, 1),
        await total(services, 1, 2),
        await total(services, a=1, b=2, scale=1),
        await total(services, b=2, a=1),
    ] == [3] * 4
    assert calls == [(1, 2, (), 1, {})]
    assert total.__doc__ == "Adds."
    await total(services, 1, 2, 3)
    await total(services, 1, 2, x=3)
    await total(services, 1, 2, y=3)
    await total(services, True)
    assert len(calls) == 5
    with pytest.raises(TypeError):
        await total(services)  # type: ignore[call-arg]


async def test_results_come_back_as_their_type(services: Services) -> None:
    @memoize(ttl_seconds=60, type=list[Article])
    async def list_articles(services: Services) -> list[Article]:
        return [Article(1, "ann", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))]

    computed, stored = await list_articles(services), await list_articles(services)
    assert computed == stored
    assert isinstance(stored[0], Article)


async def test_functions_and_versions_are_apart(services: Services) -> None:
    @memoize(ttl_seconds=60)
    async def one(services: Services, a: int) -> str:
        return "one"

    @memoize(ttl_seconds=60)
    async def two(services: Services, a: int) -> str:
        return "two"

    async def versioned(services: Services) -> str:
        return "old"

    async def changed(services: Services) -> str:
        return "new"

    changed.__qualname__ = versioned.__qualname__
    assert [await one(services, 1), await two(services, 1)] == ["one", "two"]
    assert await memoize(ttl_seconds=60)(versioned)(services) == "old"
    assert await memoize(ttl_seconds=60)(changed)(services) == "old"
    assert await memoize(ttl_seconds=60, version=2)(changed)(services) == "new"


async def test_tags_from_arguments_and_from_results(services: Services, calls: Calls) -> None:
    @memoize(ttl_seconds=60, tags=lambda id: f"article:{id}")
    async def by_id(services: Services, id: int, full: bool = True) -> int:
        calls.append(id)
        return id

    @memoize(ttl_seconds=60, tags=lambda result, id: [f"author:{result['author']}", f"article:{id}"])
    async def with_author(services: Services, id: int) -> dict[str, str]:
        calls.append(id)
        return {"author": "ann"}

    @memoize(ttl_seconds=60, tags=["articles"])
    async def count(services: Services) -> int:
        calls.append("count")
        return 1

    async def all_are_asked() -> list[Any]:
        calls.clear()
        await by_id(services, 1)
        await by_id(services, 2)
        await with_author(services, 3)
        await count(services)
        return list(calls)

    await all_are_asked()
    # The first result under a new tag is not stored: the tag may have been invalidated meanwhile.
    assert await all_are_asked() == [3]

    async def all_are_kept() -> bool:
        return await all_are_asked() == []

    await eventually(all_are_kept)
    await services.cache.invalidate_tags("article:1")
    assert await all_are_asked() == [1]
    await services.cache.invalidate_tags("articles")
    assert await all_are_asked() == ["count"]
    await services.cache.invalidate_tags("author:ann")
    assert 3 in await all_are_asked()


async def test_a_key_function_says_what_matters(services: Services, calls: Calls) -> None:
    @memoize(ttl_seconds=60, key=lambda article: article.id)
    async def summary(services: Services, article: Article, log: object) -> str:
        calls.append(article.id)
        return "short"

    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    await summary(services, Article(1, "ann", at), print)
    await summary(services, Article(1, "bob", at), object())
    await summary(services, Article(2, "ann", at), None)
    assert calls == [1, 2]


async def test_delete_and_bypass(services: Services, calls: Calls) -> None:
    @memoize(ttl_seconds=60)
    async def double(services: Services, a: int) -> int:
        calls.append(a)
        return 2 * a

    await double(services, 1)
    await double(services, 2)
    await delete_memoized(double, services, a=1)
    assert [await double(services, 1), await double(services, 2)] == [2, 4]
    assert calls == [1, 2, 1]
    assert await double.uncached(services, 2) == 4
    assert calls == [1, 2, 1, 2]


async def test_arguments_that_cannot_be_told_apart_are_refused(services: Services) -> None:
    @memoize(ttl_seconds=60)
    async def describe(services: Services, what: object) -> str:
        return "a thing"

    with pytest.raises(TypeError, match="cache key"):
        await describe(services, object())


def test_only_async_functions_are_memoized() -> None:
    def plain(services: Services) -> int:
        return 1

    with pytest.raises(TypeError, match="async"):
        memoize(ttl_seconds=60)(plain)  # type: ignore[arg-type]


def test_a_function_must_say_where_its_cache_comes_from() -> None:
    async def any_arguments(*args: object) -> None: ...

    async def named_only(*, resources: Services) -> None: ...

    for function in (any_arguments, named_only):
        with pytest.raises(TypeError, match="first parameter"):
            memoize(ttl_seconds=1)(function)  # type: ignore[arg-type, type-var]
