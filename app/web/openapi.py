"""The document of the API (OpenAPI 3.1), completed from the policies that the guard enforces: one source for both."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, cast

from quart import Quart
from quart_schema.conversion import model_schema
from quart_schema.openapi import OpenAPIProvider
from quart_schema.validation import QUART_SCHEMA_QUERYSTRING_ATTRIBUTE
from werkzeug.routing import BaseConverter, IntegerConverter, Rule

from app.db.database import LARGEST_ID
from app.errors import MOST_LISTED
from app.principal import CREDENTIALS
from app.web.answers import answers_of, raw_body_of
from app.web.examples import JSONSchema, example_of
from app.web.limits.declare import RouteLimits
from app.web.problems import MEDIA_TYPE
from app.web.route_policy import Route, RoutePolicy, compile_routes

# The security schemes by which a credential is sent.
SCHEMES = {"session": ("session", "bearer"), "api_key": ("api_key",), "cookie": ("cookie",)}
_ALWAYS = ("X-Request-ID",)
_LIMITED = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit")
HEADERS = {
    "X-Request-ID": ("The id of the request, as in the log.", "string"),
    "X-RateLimit-Limit": ("Requests in the window of the limit that is nearest.", "integer"),
    "X-RateLimit-Remaining": ("Requests that are left of them.", "integer"),
    "X-RateLimit-Reset": ("When the window ends, in seconds since 1970.", "integer"),
    "RateLimit-Policy": ("The limits (draft-ietf-httpapi-ratelimit-headers).", "string"),
    "RateLimit": ("What is left of them (draft-ietf-httpapi-ratelimit-headers).", "string"),
    "Retry-After": ("Seconds after which another try may succeed.", "integer"),
    "Location": ("The URL of what was made.", "string"),
    "ETag": ("The state that was sent, for If-None-Match and If-Match.", "string"),
    "Cache-Control": ("Whether the response may be stored.", "string"),
    "WWW-Authenticate": ("How credentials are sent.", "string"),
    "Link": ("The first, the previous and the next page (RFC 8288).", "string"),
}
IDEMPOTENCY_KEY: JSONSchema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeat with the same text within a day gets the first answer, and is not carried out.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
IF_MATCH: JSONSchema = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags of states, of which the current one must be one, or *.",
    "schema": {"type": "string"},
}
IF_NONE_MATCH = IF_MATCH | {
    "name": "If-None-Match",
    "description": "ETags of states, of which the current one must be none.",
}
EVENT = 'id: 9b1c-1767225600000-0\nevent: article_created\ndata: {"type":"article_created","data":{"id":7}}\n\n'
PROBLEM: JSONSchema = {
    "title": "Problem",
    "description": "Problem details (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string", "examples": ["about:blank"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["There is no such article."]},
        "request_id": {"type": "string", "examples": ["5f0c2d9e8a7b6c41"]},
        "errors": {
            "description": "Each invalid field of a body or query (422).",
            "type": "array",
            "maxItems": MOST_LISTED,
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
                "required": ["loc", "msg"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}


class Document(OpenAPIProvider):
    """quart-schema's document with security, errors, headers, examples and schemas that are shared."""

    @cached_property
    def _routes(self) -> Mapping[str, Route]:
        return compile_routes(cast(Quart, self._app))

    def schema(self) -> JSONSchema:
        document = super().schema()
        components = document["components"]
        components["schemas"]["Problem"] = PROBLEM
        components["headers"] = {
            name: {"description": told, "schema": {"type": kind}} for name, (told, kind) in HEADERS.items()
        }
        cookie = {"type": "apiKey", "in": "cookie", "name": self._app.config["SESSION_COOKIE_NAME"]}
        components["securitySchemes"]["cookie"] = cookie
        for path in document["paths"].values():
            for operation in path.values():
                for content in _contents(operation):
                    content["schema"] = _shared(content["schema"], components["schemas"])
        for path in document["paths"].values():
            for operation in path.values():
                for content in _contents(operation):
                    content.setdefault("example", example_of(content["schema"], components["schemas"]))
        return document

    def build_path_parameter(self, name: str, converter: BaseConverter) -> JSONSchema:
        parameter = super().build_path_parameter(name, converter)
        if isinstance(converter, IntegerConverter):
            parameter["schema"] |= {"minimum": 0, "maximum": LARGEST_ID}
        return parameter

    def build_querystring_parameters(self, model: type[Any]) -> tuple[list[JSONSchema], JSONSchema]:
        parameters, definitions = super().build_querystring_parameters(model)
        required = model_schema(model, preference=self._app.config["QUART_SCHEMA_CONVERSION_PREFERENCE"]).get(
            "required", ()
        )
        return [each | {"required": each["name"] in required} for each in parameters], definitions

    def build_request_body(self, *arguments: Any) -> tuple[JSONSchema, JSONSchema]:
        body, definitions = super().build_request_body(*arguments)
        return body | {"required": True}, definitions

    def build_paths(self, rule: Rule) -> tuple[JSONSchema, JSONSchema]:
        paths, components = super().build_paths(rule)
        route = self._routes[rule.endpoint]
        for path in paths.values():
            for method, operation in path.items():
                policy = route.by_method.get(method.upper(), route.policy)
                _complete(operation, rule, route.view, policy, method)
        return paths, components

    def operation_id(self, method: str, path: str, func: Callable[..., Any]) -> str | None:
        module = func.__module__.split(".")
        return f"{method.lower()}_{'_'.join(module[-2:])}_{func.__name__}"


def _complete(operation: JSONSchema, rule: Rule, view: Callable[..., Any], policy: RoutePolicy, method: str) -> None:
    credentials = frozenset(CREDENTIALS).intersection(*(each.credentials for each in policy.access))
    operation["security"] = (
        [{scheme: []} for name in CREDENTIALS if name in credentials for scheme in SCHEMES[name]]
        if policy.access
        else []
    )
    if policy.is_idempotent and method == "post":
        operation["parameters"] = [*operation["parameters"], IDEMPOTENCY_KEY]
    if method != "get" and any(each.status == 412 for each in answers_of(view)):
        operation["parameters"] = [*operation["parameters"], IF_MATCH, IF_NONE_MATCH]
    if kinds := raw_body_of(view):
        # No schema: the bytes are no JSON (OpenAPI 3.1, 4.8.14).
        content = {kind: {"schema": {}, "example": "The bytes of the file."} for kind in kinds}
        operation["requestBody"] = {"required": True, "content": content}
    responses: JSONSchema = {}
    for status, response in operation["responses"].items():
        responses[str(int(status))] = dict(response)
    declared = answers_of(view)
    for answer in declared:
        if answer.status < 400:
            response = responses.setdefault(str(answer.status), {"description": answer.description})
            if answer.content_type:
                response["content"] = response.get("content", {}) | _content(answer.content_type)
    if not responses:
        responses["200" if method == "get" else "204"] = {}
    if policy.cache is not None and policy.cache.public:
        responses["304"] = {"description": "The client has this state already."}
    for status in sorted(
        _errors(rule, view, policy, method) | {each.status for each in declared if each.status >= 400}
    ):
        responses[str(status)] = _problem(status)
    for status, response in responses.items():
        names = [*_header_names(int(status), policy)]
        names += [name for each in declared if str(each.status) == status for name in each.headers]
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
    operation["responses"] = responses


def _errors(rule: Rule, view: Callable[..., Any], policy: RoutePolicy, method: str) -> set[int]:
    """The statuses that the guard and the framework answer for any such route."""
    found = {400}
    if policy.access:
        found |= {401, 403, 503}
    if method != "get":
        found |= {403}  # a request from another site
    if rule.arguments:
        found.add(404)
    if policy.cache is not None:
        found |= {412, 503}
    if policy.wants_json:
        found |= {413, 415, 422, 503}
    if policy.is_idempotent and method == "post":
        found |= {409, 422, 503}
    if hasattr(view, QUART_SCHEMA_QUERYSTRING_ATTRIBUTE):
        found.add(422)
    if isinstance(policy.limits, RouteLimits):
        found |= {401, 429, 503}  # 401: an invalid credential, which is no visitor's
    return found


def _content(kind: str) -> JSONSchema:
    if kind == "text/event-stream":
        # OpenAPI 3.1 has no schema of a sequence of events.
        return {kind: {"schema": {}, "example": EVENT}}
    return {kind: {"schema": {} if kind == "application/json" else {"type": "string"}}}


def _problem(status: int) -> JSONSchema:
    schema = {"$ref": "#/components/schemas/Problem"}
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    full = example | {"detail": "What was wrong, for people.", "request_id": "5f0c2d9e8a7b6c41"}
    return {"content": {MEDIA_TYPE: {"schema": schema, "example": full}}}


def _header_names(status: int, policy: RoutePolicy) -> Iterator[str]:
    yield from _ALWAYS
    if isinstance(policy.limits, RouteLimits) and status != 400:
        yield from _LIMITED
    if status in (429, 503):
        yield "Retry-After"
    if status == 401:
        yield "WWW-Authenticate"
    if status == 201:
        yield "Location"
    if status in (200, 304) and policy.cache is not None:
        yield from ("ETag", "Cache-Control")


def _contents(operation: JSONSchema) -> Iterator[JSONSchema]:
    holders = [operation.get("requestBody", {}), *operation["responses"].values()]
    for holder in holders:
        yield from holder.get("content", {}).values()


def _shared(schema: JSONSchema, components: JSONSchema) -> JSONSchema:
    """A reference to the schema among the shared ones, where it has a name that no other one has."""
    name = schema.get("title", "")
    if schema.get("type") != "object" or not name or components.setdefault(name, schema) != schema:
        return schema
    return {"$ref": f"#/components/schemas/{name}"}
