"""The way into every view: who asks, how often, whether they may, and whether the answer is known already."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from quart import Quart, Response, current_app, request, websocket
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, RequestRedirect, Rule

from app.web import declarations, problems
from app.web.caching import cached_view
from app.web.context import Exchange, current, exchange
from app.web.declarations import View
from app.web.handshake import Handshake
from app.web.idempotency import once
from app.web.identity import auth
from app.web.limits.enforce import enforce
from app.web.links import PUBLIC_URL
from app.web.ranges import RangedResponse, conditional
from app.web.route_policy import (
    FoundPolicy,
    Route,
    RoutePolicy,
    compile_route,
    compile_routes,
    has_hooks,
    plain_rules,
    refuse_hidden,
)


class GuardedQuart(Quart):
    """Quart whose views run behind what their routes declare.

    create_app() and the start of serving compile every route. One that is added, replaced or declared anew later is
    compiled before its next request. DeclarationError: a declaration would not be enforced.
    """

    websocket_class = Handshake
    response_class = RangedResponse
    # Changes the response to a problem, for browsers; WebSockets have none.
    problem_page: Callable[[Response], Awaitable[None]] | None = None
    _routes: Mapping[str, Route] = {}
    _generation = -1
    _folders: tuple[str, ...] | None = None
    _plain_rules: Mapping[tuple[str, str], Rule] | None = None
    _adapter: MapAdapter | None = None
    _hooked: dict[str, bool]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._hooked = {}
        super().__init__(*arguments, **named)

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, *args: Any, **options: Any
    ) -> None:
        if view_func is not None:
            refuse_hidden(view_func)
        super().add_url_rule(rule, endpoint, view_func, *args, **options)
        self._routes, self._folders, self._plain_rules, self._adapter = {}, None, None, None

    def convert_models_only(self) -> None:
        """Pass answers of plain lists and dicts, and finished responses, by quart-schema.

        It would make a validator of pydantic's for each of them, which takes longer than all the rest of a short
        request. Models inside them are encoded by StrictJSONProvider.
        """
        convert = self.make_response

        async def make_response(result: Any) -> Any:
            if isinstance(result, Response):
                return result
            return self.json.response(result) if type(result) in (dict, list) else await convert(result)

        self.make_response = make_response  # type: ignore[method-assign]

    def compile_routes(self) -> None:
        """Make the policy of every route. DeclarationError: see route_policy.compile_routes()."""
        self._generation, self._routes = declarations.generation, compile_routes(self)

    async def startup(self) -> None:
        self.compile_routes()
        await super().startup()

    async def preprocess_request(self, *context: Any, **named: Any) -> ResponseReturnValue | None:
        _begin(request)
        return await super().preprocess_request(*context, **named)

    async def preprocess_websocket(self, *context: Any, **named: Any) -> ResponseReturnValue | None:
        _begin(websocket)
        return await super().preprocess_websocket(*context, **named)

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """The first of a request, which is Quart's own, need not search for the rule that the edge has found."""
        adapter, answered = super().create_url_adapter(request), current.get()
        if adapter and request and answered and answered.found and answered.scope is request.scope:
            _match_once(adapter, answered.found)
            answered.found = None
        return adapter

    # Quart 0.22 passes the context last and may leave it out; 0.23 passes it first. None of these methods uses it.
    async def dispatch_request(self, *context: Any, **named: Any) -> ResponseReturnValue:
        asked = request
        rule = asked.url_rule
        if isinstance(asked.routing_exception, RequestRedirect):
            return _redirect(asked.routing_exception)
        if rule is None or (asked.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False)):
            return await super().dispatch_request(*context, **named)
        route = self._route(rule.endpoint)
        policy = route.by_method.get(asked.method, route.policy)
        await self._admit(policy)
        arguments = asked.view_args or {}
        run = partial(self._run, route.run, arguments)
        if asked.method not in ("GET", "HEAD"):
            return await (once(run) if policy.is_idempotent and asked.method == "POST" else run())
        response = await (cached_view.respond(policy.cache, run, arguments) if policy.cache else run())
        return conditional(asked, response)

    async def _run(self, view: View, arguments: Mapping[str, Any]) -> Response:
        result = await self.ensure_async(view)(**arguments)
        # A Werkzeug response, such as a redirect's, is passed on as it is.
        return cast(Response, await self.make_response(result))

    async def dispatch_websocket(self, *context: Any, **named: Any) -> ResponseReturnValue | None:
        rule = websocket.url_rule
        if isinstance(websocket.routing_exception, RequestRedirect):
            return _redirect(websocket.routing_exception)
        if rule is not None:
            route = self._route(rule.endpoint)
            await self._admit(route.by_method.get("GET", route.policy))
        return await super().dispatch_websocket(*context, **named)

    async def process_response(self, *arguments: Any, **named: Any) -> ResponseTypes:
        [response] = [each for each in arguments if isinstance(each, Response)]
        if self.problem_page is not None and response.mimetype == problems.MEDIA_TYPE:
            await self.problem_page(response)
        return await super().process_response(*arguments, **named)

    async def postprocess_websocket(self, *arguments: Any, **named: Any) -> ResponseTypes:
        made: Any = await super().postprocess_websocket(*arguments, **named)
        asked: Any = websocket
        if asked.accepted or asked.closed:
            return cast(ResponseTypes, made)
        # A view that neither accepts nor answers refuses; its client is told so, and the log.
        return cast(ResponseTypes, made or problems.problem(403, "Forbidden", "The connection was not accepted."))

    async def _admit(self, policy: RoutePolicy) -> None:
        if policy.is_open:
            return
        identity = await auth.identify()
        # The limiter comes before each refusal: guesses at credentials, and what is malformed, are requests too.
        await enforce(policy.limits, identity.principal, with_body=False)
        if policy.wants_json:
            problems.require_json()
        auth.authorize(policy.access)
        # A body is read last: parsing it is the one thing here that a client can make expensive.
        await enforce(policy.limits, identity.principal, with_body=True)

    def find_policy(self, asked: Exchange) -> FoundPolicy | None:
        """The policy of the route that a request will reach, for the edge.

        None where it reaches no view, where Quart itself has to decide on the route, and where hooks of the application
        have a part in the answer.
        """
        if asked.scope.get("root_path") or self.config["SERVER_NAME"] or self.url_map.host_matching:
            return None
        if self._plain_rules is None or self._adapter is None:
            self._plain_rules, self._adapter = plain_rules(self.url_map), self.url_map.bind("")
        rule, arguments = self._plain_rules.get((asked.path, asked.method)), {}
        if rule is None:
            try:
                found: Any = self._adapter.match(asked.path, asked.method, return_rule=True)
            except HTTPException:
                return None
            rule, arguments = found
        if asked.method == "OPTIONS" or rule.endpoint not in self.view_functions or self._has_hooks(rule.endpoint):
            return None
        try:
            route = self._route(rule.endpoint)
        except declarations.DeclarationError:
            # Raised again before the view, where it is answered and logged.
            return None
        asked.found = rule, arguments
        return FoundPolicy(rule, arguments, route.by_method.get(asked.method, route.policy))

    def _has_hooks(self, endpoint: str) -> bool:
        # Quart lets none be added after its first request.
        found = self._hooked.get(endpoint)
        if found is None:
            found = self._hooked[endpoint] = has_hooks(self, endpoint)
        return found

    def reads_session(self, asked: BaseRequestWebsocket) -> bool:
        """Whether the session belongs to the answer. It does not to a static file that everyone may read."""
        # By the path: Quart opens the session before it looks for the route.
        answered = current.get()
        if answered is not None and answered.refusal:
            return False
        return not asked.path.startswith(self._open_folders())

    def _open_folders(self) -> tuple[str, ...]:
        if self._folders is None or self._generation != declarations.generation:
            found = {rule.rule.partition("<")[0] for rule in self.url_map.iter_rules() if self._is_open(rule.endpoint)}
            # A folder at the root has no paths of its own.
            self._folders = tuple(found - {"/"})
        return self._folders

    def _is_open(self, endpoint: str) -> bool:
        try:
            return endpoint in self.view_functions and self._route(endpoint).policy.is_open
        except declarations.DeclarationError:
            # Raised again where it is answered and logged: before the view.
            return False

    def _route(self, endpoint: str) -> Route:
        if self._generation != declarations.generation:
            self._generation, self._routes, self._folders = declarations.generation, {}, None
        route = self._routes.get(endpoint)
        if route is None or route.view is not self.view_functions[endpoint]:
            route = compile_route(self, endpoint)
            self._routes = {**self._routes, endpoint: route}
        return route


def _match_once(adapter: MapAdapter, found: tuple[Rule, Mapping[str, Any]]) -> None:
    """Let the first search, which is Quart's for the request, find this; later ones are as without it."""

    def match(**_named: Any) -> tuple[Rule, Mapping[str, Any]]:
        del adapter.match
        return found

    adapter.match = match  # type: ignore[method-assign,assignment]


def _begin(asked: BaseRequestWebsocket) -> None:
    """Tell the edge the route, for the log, and raise what it has refused."""
    exchanged = exchange()
    if asked.url_rule is not None:
        exchanged.route = asked.url_rule.rule
    if exchanged.refusal:
        raise exchanged.refusal


def _redirect(found: RequestRedirect) -> ResponseReturnValue:
    """To the path that Werkzeug has found (two slashes are one, say), under PUBLIC_URL: its own leads to the Host."""
    target = urlsplit(found.new_url)
    query = f"?{target.query}" if target.query else ""
    return Response(
        b"", status=found.code, headers={"Location": f"{current_app.config[PUBLIC_URL]}{target.path}{query}"}
    )
