"""The document of the API is complete, valid, and says of each route what the guard enforces."""

import json
import re
from typing import Any

import pytest
from quart import Quart
from quart.testing import QuartClient

from app.web.limits.declare import RouteLimits
from app.web.route_policy import compile_routes

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture
async def document(client: QuartClient) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await (await client.get("/openapi.json")).get_data())
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def test_every_operation_has_what_a_client_needs(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) > 30
    for name, operation in found.items():
        assert operation["summary"], name
        assert "security" in operation, name
        statuses = set(operation["responses"])
        assert any(status.startswith("2") for status in statuses), name
        assert "400" in statuses, name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            assert "X-Request-ID" in response["headers"], (name, status)
            problem = response.get("content", {}).get("application/problem+json")
            assert (problem is not None) == (status >= "400"), (name, status)
    upload = found["PUT /api/v1/users/{user_id}/avatar"]["requestBody"]
    assert upload["required"]
    assert set(upload["content"]) == {f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp")}
    identifiers = [operation["operationId"] for operation in found.values()]
    assert len(set(identifiers)) == len(identifiers)


async def test_security_and_limits_are_those_of_the_guard(app: Quart, document: dict[str, Any]) -> None:
    found = operations(document)
    routes = compile_routes(app)
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:>]*:)?([^>]+)>", r"{\1}", rule.rule)
        for method in rule.methods or ():
            operation = found.get(f"{method} {path}")
            if operation is None:
                continue
            policy = routes[rule.endpoint].by_method.get(method, routes[rule.endpoint].policy)
            assert bool(operation["security"]) == bool(policy.access), rule
            assert {"401", "403"} <= set(operation["responses"]) or not policy.access, rule
            assert ("429" in operation["responses"]) == isinstance(policy.limits, RouteLimits), rule


async def test_a_route_for_some_credentials_names_these(document: dict[str, Any]) -> None:
    found = operations(document)
    schemes = {name: {next(iter(each)) for each in operation["security"]} for name, operation in found.items()}
    assert schemes["GET /api/v1/profile"] == {"session", "bearer", "api_key", "cookie"}
    assert schemes["POST /api/v1/api-keys"] == {"session", "bearer", "cookie"}
    assert schemes["GET /api/v1/notices"] == set()
    assert set().union(*schemes.values()) <= set(document["components"]["securitySchemes"])


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


async def test_every_reference_leads_somewhere_and_nothing_outside(document: dict[str, Any]) -> None:
    found = references(document)
    assert "#/components/schemas/Problem" in found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


async def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in holder.get("content", {}).values():
                assert "example" in content, name


async def test_an_example_is_accepted(client: QuartClient, document: dict[str, Any]) -> None:
    content = operations(document)["POST /api/v1/users"]["requestBody"]["content"]["application/json"]
    assert (await client.post("/api/v1/users", json=content["example"])).status_code == 201


async def test_the_page_of_the_document_needs_no_other_host(client: QuartClient) -> None:
    page = await (await client.get("/docs")).get_data(as_text=True)
    # What the page loads. A data: URL is part of it.
    loaded = re.findall(r'(?:src|<link [^>]*href)="(?!data:)([^"]+)"', page)
    assert len(loaded) >= 2
    for address in loaded:
        assert address.startswith("/")
        assert (await client.get(address)).status_code == 200
