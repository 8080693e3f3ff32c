"""Errors as pages: for browsers, and for them alone."""

import pytest
from quart import Quart
from quart.testing import QuartClient

from tests.browsing import add_faults

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
PROBLEM, PAGE = "application/problem+json", "text/html"
ACCEPTED = {
    "": PROBLEM,
    "*/*": PROBLEM,
    "application/json": PROBLEM,
    "application/json, text/html;q=0.9": PROBLEM,
    "text/html;q=0.1, application/problem+json": PROBLEM,
    "text/plain": PROBLEM,
    "text/html;q=x, ;;,=": PROBLEM,
    "text/html": PAGE,
    BROWSER: PAGE,
}


@pytest.fixture
def faulty(app: Quart) -> QuartClient:
    add_faults(app)
    return app.test_client()  # type: ignore[return-value]


@pytest.mark.parametrize("accept", ACCEPTED)
async def test_a_client_gets_the_form_that_it_accepts(client: QuartClient, accept: str) -> None:
    for path in ("/nothing", "/api/v1/nothing"):
        answer = await client.get(path, headers={"Accept": accept} if accept else {})
        assert (answer.status_code, answer.mimetype) == (404, ACCEPTED[accept])
        assert answer.headers["X-Request-ID"] in await answer.get_data(as_text=True)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_a_page_keeps_status_and_headers_and_escapes_the_detail(faulty: QuartClient, status: int) -> None:
    answer = await faulty.get(f"/fails/{status}", headers={"Accept": BROWSER})
    text = await answer.get_data(as_text=True)
    assert (answer.status_code, answer.mimetype) == (status, PAGE)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Accept" in answer.headers["Vary"]
    assert "<img" not in text
    assert "a defect" not in text
    assert ("Retry-After" in answer.headers) is (status == 503)
    head = await faulty.head(f"/fails/{status}", headers={"Accept": BROWSER})
    assert (head.status_code, head.mimetype) == (status, PAGE)


async def test_a_limit_says_how_long_to_wait(faulty: QuartClient) -> None:
    await faulty.get("/busy")
    answer = await faulty.get("/busy", headers={"Accept": BROWSER})
    assert answer.status_code == 429
    text = await answer.get_data(as_text=True)
    assert f'data-countdown="{answer.headers["Retry-After"]}"' in text
    assert text.count("Try again in") == 1


async def test_a_page_for_users_leads_to_the_login_and_back(client: QuartClient) -> None:
    answer = await client.get("/api/v1/profile?a=1&b=%2F", headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/login?next=%2Fapi%2Fv1%2Fprofile%3Fa%3D1%26b%3D%252F",
    )
    form = await client.get(answer.headers["Location"])
    assert 'value="/api/v1/profile?a=1&amp;b=%2F"' in await form.get_data(as_text=True)
    # What a form has sent is not sent again by a redirect.
    assert (await client.post("/api/v1/api-keys", json={"name": "x"}, headers={"Accept": BROWSER})).status_code == 401
