"""Policies of the house that the code must keep: limits on routes, lifetimes of keys, the sizes of modules."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from quart import Quart
from quart.testing import QuartClient

from app.factory import DEFAULT_LIMIT, jobs_of
from app.kit.limits.limit import Limit
from app.resources import Resources
from app.web.context import EXTENSION
from app.web.limits.declare import Exemption, RouteLimits
from app.web.route_policy import compile_routes
from tests.domain.client import broadcast
from tests.keys import lasting_keys
from tests.notices import NOTICE
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for path in (ROOT / "app").rglob("*.py") if "versions" not in path.parts)
# The habit is about 250 lines and 30; these are where a second noun is certain.
MOST_LINES, MOST_FUNCTION_LINES = 260, 45


async def test_every_route_has_a_limit_or_a_written_exemption(app: Quart) -> None:
    routes = compile_routes(app)
    assert len(routes) > 20
    for endpoint, route in routes.items():
        for policy in (route.policy, *route.by_method.values()):
            assert isinstance(policy.limits, RouteLimits | Exemption), endpoint
            if isinstance(policy.limits, Exemption):
                assert len(policy.limits.reason) > 10, endpoint


async def test_the_login_limits_are_never_open(app: Quart) -> None:
    policy = compile_routes(app)["users.sign_in.login"].policy.limits
    assert isinstance(policy, RouteLimits)
    limits = policy.declared()
    assert limits
    assert all(limit.sensitive and limit.on_error != "open" for limit in limits)


def test_the_default_limit_can_be() -> None:
    assert Limit.parse(DEFAULT_LIMIT, name="default", algorithm="counter").amount > 0


def test_tasks_are_listed_once_by_name() -> None:
    jobs = jobs_of()
    names = [task.name for task in jobs.tasks]
    assert len(set(names)) == len(names)
    assert {entry.task for entry in jobs.schedule} <= set(jobs.tasks)


async def test_every_key_has_a_lifetime(app: Quart, client: QuartClient) -> None:
    """After a user has been through every block."""
    credentials = {"email": "a@example.org", "password": "correct horse battery"}
    await client.post("/api/v1/users", json={**credentials, "name": "A"})
    login = await client.post("/api/v1/login", json=credentials)
    headers = {"X-Session-ID": (await login.get_json())["session_id"]}
    resources: Resources = app.extensions[EXTENSION]
    await client.post("/api/v1/notices", json=NOTICE, headers=headers)
    await eventually(lambda: broadcast(resources, "notice_pinned"))
    for path in ("/api/v1/notices", "/api/v1/notices/mine", "/api/v1/profile"):
        assert (await client.get(path, headers=headers)).status_code == 200
    assert await lasting_keys(resources) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_can_be_read_at_a_sitting(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, f"{path.name}: {node.name}"


def public_names(path: Path) -> Iterator[str]:
    """The public classes, functions and constants at the top of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith(("TypeVar(", "ParamSpec(")):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_a_public_name_of_kit_and_web_has_one_meaning() -> None:
    # What a module offers by convention: the factory registers middleware and blueprints.
    conventional = {"logger", "register", "blueprint"}
    places: dict[str, set[str]] = {}
    for path in MODULES:
        if path.relative_to(ROOT).parts[1] in ("kit", "web"):
            for name in public_names(path):
                places.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    assert len(places) > 100
    shared = {name: found for name, found in places.items() if len(found) > 1 and not name.startswith("_")}
    assert {name: found for name, found in shared.items() if name not in conventional} == {}
