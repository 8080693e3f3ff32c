"""create_app(settings): registers everything, in explicit lists, and hands each part what it needs."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from quart import Blueprint, Quart
from quart_schema import APIKeySecurityScheme, HttpSecurityScheme, Info, QuartSchema, hide

from app import __version__
from app.db.schema import Schema
from app.db.url import BadURL as BadDatabaseURL
from app.db.url import check_database_url
from app.domain.slice import AT_LOGIN, Slice
from app.domain.slices import SLICES
from app.domain.users.lookups import UserLookups
from app.kit.client.url import BadURL, parse_url
from app.kit.events.handler import EventHandler
from app.kit.limits.limit import Limit
from app.kit.metrics import Metric
from app.lifespan import Jobs, consuming, open_resources, relaying, streaming, subscribing
from app.pages import accounts, console, console_tasks, development, front
from app.pages import routes as pages
from app.pages import settings as settings_page
from app.settings import Settings, SettingsError
from app.tracing import check_tracer, make_tracer
from app.web import problems
from app.web.caching.stored_response import CACHED_HOSTS
from app.web.client_address import is_trusted_proxy
from app.web.context import EXTENSION
from app.web.guard import GuardedQuart
from app.web.host import stated_hosts
from app.web.html import error_pages, layout
from app.web.identifier import Identifier
from app.web.identity import auth, session_interface
from app.web.limits import declare, enforce, subjects
from app.web.middleware import cors, request_log, security
from app.web.middleware.strict_json import StrictJSONProvider, StrictRequest
from app.web.openapi import Document
from app.web.routes import event_socket, events, health, limits, metrics, operations, presence, tasks
from app.web.telemetry import PrometheusTelemetry

BLUEPRINTS = (
    events.blueprint,
    event_socket.blueprint,
    presence.blueprint,
    limits.blueprint,
    operations.blueprint,
    tasks.blueprint,
    pages.blueprint,
    accounts.blueprint,
    settings_page.blueprint,
    console.blueprint,
    console_tasks.blueprint,
    health.blueprint,
    metrics.blueprint,
)
# For every route that declares no other limit: by principal, or by address without one.
DEFAULT_LIMIT = "1200/minute"
MIGRATIONS = Path(__file__).parent / "migrations"
STATIC_FOLDER = Path(__file__).parent / "pages" / "static"


def create_app(settings: Settings, *, slices: Sequence[Slice] = SLICES) -> Quart:
    """The ASGI application of these slices. It opens nothing before it serves.

    SettingsError: a bad URL of a backend. DeclarationError: what a route declares would not hold.
    """
    check_urls(settings)
    app = GuardedQuart("app", static_folder=str(STATIC_FOLDER))
    app.redis_budget_seconds = settings.redis_budget_ms / 1000
    app.config.update(_configuration(settings))
    app.url_map.converters["int"] = Identifier
    app.request_class = StrictRequest
    telemetry = PrometheusTelemetry(version=__version__, metrics=metrics_of(slices))
    app.extensions[metrics.TELEMETRY_EXTENSION] = telemetry
    app.extensions[AT_LOGIN] = tuple(each.at_login for each in slices if each.at_login)
    app.extensions[health.SCHEMA] = Schema(MIGRATIONS)
    jobs = jobs_of(slices)
    tasks.keep_names(app, [task.name for task in jobs.tasks if task.events])
    _register_web(app, settings, telemetry)
    _register_schema(app)
    own = [each.pages for each in slices if each.pages]
    for blueprint in (*(each.blueprint for each in slices), *own, *BLUEPRINTS):
        app.register_blueprint(blueprint)
    if not any(rule.rule == "/" for rule in app.url_map.iter_rules()):
        app.register_blueprint(front.blueprint)
    if settings.environment == "development":
        development.register(app)
    layout.register(app, [*(link for each in slices for link in each.links), *pages.LINKS])
    app.compile_routes()
    _register_lifespan(app, settings, telemetry, slices)
    return app


def jobs_of(slices: Sequence[Slice] = SLICES) -> Jobs:
    """What the worker runs."""
    return Jobs(
        tasks=tuple(task for each in slices for task in each.tasks),
        schedule=tuple(entry for each in slices for entry in each.schedule),
    )


def metrics_of(slices: Sequence[Slice] = SLICES) -> tuple[Metric, ...]:
    """What the slices count and measure."""
    return tuple(metric for each in slices for metric in each.metrics)


def handlers_of(slices: Sequence[Slice] = SLICES) -> tuple[EventHandler, ...]:
    """What the subscriber calls."""
    return tuple(handler for each in slices for handler in each.handlers)


def _configuration(settings: Settings) -> dict[str, Any]:
    return {
        "SECRET_KEY": settings.secret_key,
        "SESSION_COOKIE_DOMAIN": settings.session_cookie_domain or None,
        "SESSION_COOKIE_PARTITIONED": settings.session_cookie_partitioned,
        "MAX_CONTENT_LENGTH": settings.max_body_bytes,
        "TRUSTED_PROXIES": settings.trusted_proxies,
        "TRUSTED_HOPS": settings.trusted_hops,
        "TRUSTED_HEADER": settings.trusted_header,
        "QUARTET_DEVELOPMENT": settings.environment == "development",
        "METRICS_TOKEN": settings.metrics_token,
        "PUBLIC_URL": settings.public_url,
        CACHED_HOSTS: stated_hosts(settings.hosts, settings.ports),
        # Browsers revalidate each time and get a 304: after an upgrade no page runs an old script with a new one.
        "SEND_FILE_MAX_AGE_DEFAULT": 0,
        # Errors are answered, never raised into the server, in tests too.
        "PROPAGATE_EXCEPTIONS": False,
    }


def _register_web(app: GuardedQuart, settings: Settings, telemetry: PrometheusTelemetry) -> None:
    """In the order in which they see a request; they see its response in reverse order."""
    request_log.register(app, telemetry)
    cross_origin = cors.CrossOrigin(settings.cors_origins, settings.cors_headers, settings.cors_credentials)
    cors.register(app, cross_origin)
    hsts_seconds = settings.hsts_seconds if settings.is_production else 0
    security.register(app, allowed_hosts=settings.hosts, hsts_seconds=hsts_seconds)
    problems.register(app, telemetry)
    enforce.register(app)
    declare.rate_limit(DEFAULT_LIMIT, key=subjects.by_principal, scope="default", algorithm="counter")(app)
    session_interface.register(
        app,
        is_production=settings.is_production,
        name=settings.namespace,
        reads_session=app.reads_session,
        visitors=Limit.parse(
            f"{settings.visitor_sessions_per_hour}/hour", name="visitor-sessions", algorithm="counter"
        ),
    )
    auth.register(app, UserLookups())
    # The last one is the first to see a response: the others add their headers to the page.
    app.problem_page = error_pages.problem_page(login_path="/login")


def _register_schema(app: Quart) -> None:
    QuartSchema(
        app,
        openapi_path=None,
        openapi_provider_class=Document,
        info=Info(title="Quartet", version=__version__),
        security_schemes={
            "session": APIKeySecurityScheme(in_="header", name="X-Session-ID"),
            "bearer": HttpSecurityScheme(scheme="bearer"),
            "api_key": APIKeySecurityScheme(in_="header", name="API-Key"),
        },
    )
    app.json = StrictJSONProvider(app)
    hide(Quart.send_static_file)
    hide(Blueprint.send_static_file)


def _register_lifespan(app: Quart, settings: Settings, telemetry: PrometheusTelemetry, slices: Sequence[Slice]) -> None:
    tracer = make_tracer(settings, role="web")
    if tracer is not None:
        trusts = partial(is_trusted_proxy, networks=settings.trusted_proxies, hops=settings.trusted_hops)
        app.asgi_app = tracer.around_requests(app.asgi_app, route=request_log.current_route, trusts=trusts)  # type: ignore[method-assign]

    @app.while_serving
    async def serving() -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            resources = await stack.enter_async_context(
                open_resources(settings, role="web", telemetry=telemetry, tracer=tracer)
            )
            app.extensions[EXTENSION] = resources
            development.observe(app, resources)
            await stack.enter_async_context(relaying(resources))
            await stack.enter_async_context(streaming(resources))
            stack.callback(telemetry.start_timing_collections())
            if settings.consumer:
                await stack.enter_async_context(consuming(settings, resources, jobs_of(slices)))
            if settings.subscriber:
                await stack.enter_async_context(subscribing(resources, handlers_of(slices)))
            yield


def check_urls(settings: Settings) -> None:
    """SettingsError, which names the part of a URL that is wrong."""
    problems = []
    for name, url in (("REDIS_URL", settings.redis_url), ("CACHE_REDIS_URL", settings.cache_redis_url)):
        try:
            parse_url(url or "memory://")
        except BadURL as error:
            problems.append(f"{name}: {error}")
    databases = (("DATABASE_URL", settings.database_url), ("DATABASE_REPLICA_URL", settings.database_replica_url))
    for name, url in databases:
        try:
            if url:
                check_database_url(url)
        except BadDatabaseURL as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SettingsError(problems)
    check_tracer(settings)
