"""Demo data: made once, and usable."""

from app.domain.seed import seed
from app.resources import Resources
from tests.domain.client import Client


async def test_demo_accounts_are_made_once(client: Client, resources: Resources) -> None:
    made = await seed(resources)
    assert {user.email.split("@")[0]: user.roles for user in made} == {
        "admin": ("admin",),
        "editor": ("editor",),
        "reader": (),
    }
    for user in made:
        assert user.password not in repr(user)
        assert (await client.log_in(user.email.split("@")[0], password=user.password)).status_code == 200
    assert await seed(resources) == []
