"""Search finds the same on both databases, and cursors show each article once."""

import asyncio
import re
from datetime import UTC
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from quart import Quart

from app.domain.articles import service
from app.domain.articles.search import MOST_BYTES_OF_WORDS, words_of
from app.domain.paging import place_of, to_cursor
from app.domain.seed import seed
from app.resources import Resources
from tests.domain.client import Client

TEXTS = (
    ("Harbour bridge reopens", "The old harbour-bridge reopened; 3.14 km of road, e-mail desk@example.com."),
    ("Café in Łódź", "Crème brûlée for naïve guests. ÅNGSTRÖM is a unit."),
    ("東京 の ニュース", "東京 タワー reopens."),
    ("Quotes ' and \" and \\", "It's NOT a NEAR miss: AND OR * ( ) & | ! : <->"),
    ("Numbers", "1e5 and -7 and 0x1F and 2026-03-01 and ١٢٣"),
    ("Long", "x" * 5000),
)
# What is asked for, and the titles that have it, the latest first.
FOUND = {
    "harbour": ["Harbour bridge reopens"],
    "HARBOUR Bridge": ["Harbour bridge reopens"],
    "reopens": ["東京 の ニュース", "Harbour bridge reopens"],
    "harbour missing": [],
    "harb": [],
    "example.com": ["Harbour bridge reopens"],
    "cafe": ["Café in Łódź"],
    "creme BRULEE": ["Café in Łódź"],
    "angstrom": ["Café in Łódź"],
    "東京": ["東京 の ニュース"],
    "it's": ["Quotes ' and \" and \\"],
    "and": ["Numbers", "Quotes ' and \" and \\"],
    "near": ["Quotes ' and \" and \\"],
    "not OR": ["Quotes ' and \" and \\"],
    "1e5": ["Numbers"],
    "-7": ["Numbers"],
    "2026": ["Numbers"],
    "x" * 70: ["Long"],
}


async def publish(client: Client, title: str, content: str = "Text.") -> int:
    created = await client.post("/articles", {"title": title, "content": content})
    assert created.status_code == 201
    number: int = (await created.get_json())["id"]
    return number


async def search(client: Client, q: str, **more: Any) -> dict[str, Any]:
    answer = await client.get(f"/search?{urlencode({'q': q, **more})}")
    assert answer.status_code == 200, (q, await answer.get_data())
    found: dict[str, Any] = await answer.get_json()
    return found


async def test_both_databases_find_the_same(client: Client) -> None:
    ada = await client.registered()
    for title, content in TEXTS:
        await publish(ada, title, content)
    for number, (q, titles) in enumerate(FOUND.items()):
        asker = client.with_headers(X_Forwarded_For=f"198.51.100.{number}")
        page = await search(asker, q)
        assert [each["title"] for each in page["results"]] == titles, q
        assert page["total"] == len(titles)


async def test_search_follows_changes_and_has_pages(client: Client) -> None:
    ada = await client.registered()
    numbers = [await publish(ada, f"Same {number}") for number in range(3)]
    first = await search(client, "same", per_page=2)
    assert [each["title"] for each in first["results"]] == ["Same 2", "Same 1"]
    assert (first["total"], first["pages"], first["current_page"]) == (3, 2, 1)
    assert "content" not in first["results"][0]
    await ada.put(f"/articles/{numbers[0]}", {"title": "Other", "content": "Text."})
    await ada.delete(f"/articles/{numbers[1]}")
    assert [each["title"] for each in (await search(client, "same"))["results"]] == ["Same 2"]
    assert [each["title"] for each in (await search(client, "other"))["results"]] == ["Other"]


async def test_of_many_articles_the_last_are_found(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_FOUND", 3)
    ada = await client.registered()
    for number in range(5):
        await ada.post("/articles", {"title": f"Number {number}", "content": "Of many."})
    pages = [await (await client.get(f"/search?q=many&per_page=2&page={page}")).get_json() for page in (1, 2, 3)]
    titles = [each["title"] for page in pages for each in page["results"]]
    assert (titles, pages[0]["total"], pages[0]["pages"]) == (["Number 4", "Number 3", "Number 2"], 3, 2)


async def test_what_cannot_be_searched_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    for q in ["", "%27%22%26", "a%00", "+".join("abcdefghijk"), "x" * 201]:
        with subtests.test(f"{ascii(q):.40}"):
            refused = await client.get(f"/search?q={q}")
            assert refused.status_code == (200 if q == "a%00" else 422)


@hypothesis_settings(deadline=None, database=None, max_examples=200)
@given(st.text(max_size=300))
@example("ǅ ﬁ ß İ K")
def test_words_stay_what_they_are_when_they_are_split_again(text: str) -> None:
    words = words_of(text)
    assert words_of(" ".join(words)) == words
    assert all(re.fullmatch(r"[^\W_]{1,64}", word) for word in words)


def test_a_very_long_text_has_words_that_fit() -> None:
    words = words_of(" ".join(f"word{number}" for number in range(200_000)))
    assert len(words) > 10_000
    assert len(" ".join(words).encode()) <= MOST_BYTES_OF_WORDS


async def walk(client: Client, per_page: int, between: Any = None) -> list[int]:
    """The ids of all articles, by cursors."""
    page = await (await client.get(f"/articles?per_page={per_page}")).get_json()
    seen = [each["id"] for each in page["articles"]]
    while page["next_cursor"]:
        if between:
            await between()
        page = await (await client.get(f"/articles?per_page={per_page}&cursor={page['next_cursor']}")).get_json()
        assert page["articles"]
        seen += [each["id"] for each in page["articles"]]
    return seen


async def test_a_walk_by_cursors_sees_each_article_once_while_others_are_published(client: Client) -> None:
    ada = await client.registered()
    numbers = [await publish(ada, f"Number {number}") for number in range(7)]

    async def change_the_list() -> None:
        await publish(ada, "Meanwhile")

    for per_page in (1, 2, 3, 7):
        before = list(reversed(numbers))
        seen = await walk(client, per_page, change_the_list)
        assert seen[-7:] == before
        assert len(set(seen)) == len(seen)


def test_walks_of_any_shape(app_of_walks: "Walks") -> None:
    app_of_walks.check()


class Walks:
    """Runs generated walks in one loop and one application."""

    def __init__(self, app: Quart, runner: asyncio.Runner) -> None:
        self._client, self._runner = Client(app), runner

    def check(self) -> None:
        ada = self._runner.run(self._client.registered())
        published: list[int] = [self._runner.run(publish(ada, "First"))]

        @hypothesis_settings(deadline=None, database=None, max_examples=15)
        @given(st.integers(1, 5), st.lists(st.booleans(), max_size=6))
        def check(per_page: int, inserts: list[bool]) -> None:
            turns = iter(inserts)
            before = list(reversed(published))

            async def maybe_insert() -> None:
                if next(turns, False):
                    published.append(await publish(ada, "Another"))

            seen = self._runner.run(walk(self._client, per_page, maybe_insert))
            assert len(set(seen)) == len(seen)
            assert [each for each in seen if each in set(before)] == before

        check()


@pytest.fixture
def app_of_walks(door: Any) -> Walks:
    return Walks(door.app, door.runner)


async def test_a_cursor_that_was_not_answered_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    for cursor in ["x", "====", "MC4x" * 20, "OTk5OTk5OTk5OTk5OTk5OTk5OS4x", "%C3%A9"]:
        with subtests.test(f"{ascii(cursor):.40}"):
            assert (await client.get(f"/articles?cursor={cursor}")).status_code == 422


@hypothesis_settings(deadline=None, database=None)
@given(st.datetimes().map(lambda moment: moment.replace(tzinfo=UTC)), st.integers(1, 2**63 - 1))
def test_a_cursor_is_read_as_it_was_made(moment: Any, number: int) -> None:
    if moment.year >= 1970:
        assert place_of(to_cursor(moment, number)) == (moment, number)


async def test_pages_link_to_each_other(client: Client) -> None:
    ada = await client.registered()
    for number in range(5):
        await publish(ada, f"Number {number}")

    async def links(path: str) -> dict[str, str]:
        header = (await client.get(path)).headers.get("Link", "")
        return {relation: address for address, relation in re.findall(r'<[^>?]*\?([^>]*)>; rel="(\w+)"', header)}

    assert await links("/articles?per_page=2&page=2") == {
        "first": "per_page=2&page=1",
        "prev": "per_page=2&page=1",
        "next": "per_page=2&page=3",
        "last": "per_page=2&page=3",
    }
    assert set(await links("/articles?per_page=2&page=3")) == {"first", "prev", "last"}
    cursor = (await (await client.get("/articles?per_page=2")).get_json())["next_cursor"]
    assert set(await links(f"/articles?per_page=2&cursor={cursor}")) == {"next"}
    assert (await links("/search?q=number&per_page=2"))["next"] == "per_page=2&q=number&page=2"


async def test_demo_articles_are_found(client: Client, resources: Resources) -> None:
    await seed(resources)
    found = await (await client.get("/search?q=harbour+bridge")).get_json()
    assert "Harbour bridge reopens after two years" in [each["title"] for each in found["results"]]
