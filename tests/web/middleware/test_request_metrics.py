"""Metrics of requests: a number of series that clients cannot raise."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from quart.testing import QuartClient


async def metrics(client: QuartClient) -> dict[str, float]:
    """The value of each series."""
    answer = await client.get("/metrics", scope_base={"client": ("127.0.0.1", 1)})
    families = text_string_to_metric_families(await answer.get_data(as_text=True))
    return {f"{each.name}{sorted(each.labels.items())}": each.value for family in families for each in family.samples}


@pytest.mark.parametrize("amount", [300, pytest.param(10_000, marks=pytest.mark.long)])
async def test_clients_cannot_make_series(client: QuartClient, amount: int) -> None:
    async def ask(number: int) -> None:
        method = ("GET", "POST", f"X{number}")[number % 3]
        headers = {"Host": f"h{number}.example", "X-Request-ID": f"request-{number}", "Origin": f"https://{number}"}
        await client.open(f"/unknown-{number}/{number}?a={number}", method=method, headers=headers)
        await client.open(f"/api/v1/notices?page={number}", headers={"User-Agent": f"a{number}"})

    for number in range(6):
        await ask(number)
    # This request too is counted once.
    await metrics(client)
    before = await metrics(client)
    assert before["quartet_http_requests_in_flight[]"] == 1
    for number in range(6, amount):
        await ask(number)
    after = await metrics(client)
    # Tasks of a schedule run meanwhile, and limits are reached: few series, whatever the number of requests.
    changed = after.keys() ^ before.keys()
    assert len(changed) < 100
    explained = ("quartet_task", "quartet_rate_limit")
    assert [key for key in changed if not key.startswith(explained) and "'429'" not in key] == []
    unmatched = [key for key in after if "unmatched" in key and "http_requests_total" in key]
    assert sum(after[key] for key in unmatched) == amount
    assert len(unmatched) < 10
