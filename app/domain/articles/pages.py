"""The pages for reading articles: the live front page, search, and the article."""

from typing import Any

from pydantic import ValidationError
from quart import Blueprint, render_template, request
from quart_schema import hide

from app.domain.articles import editing, service
from app.domain.articles.schemas import ArticleList, ArticlePage, Search
from app.domain.articles.tags import LIST_TAGS
from app.domain.fields import Page
from app.domain.users.service import get_account
from app.kit.cache.memoize import memoize
from app.resources import Resources
from app.web.context import resources
from app.web.html.forms import validated
from app.web.html.layout import PageLink
from app.web.html.live import live_page
from app.web.identity.auth import current_principal_or_none
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal

blueprint = Blueprint(
    "news", __name__, template_folder="templates", static_folder="static", static_url_path="/static/articles"
)
blueprint.register_blueprint(editing.blueprint)
LINKS = (PageLink("/", "News", covers=("/search", "/articles", "/write")),)
PER_PAGE = 20


@memoize(ttl_seconds=60, tags=LIST_TAGS, type=ArticlePage)
async def _latest(resources: Resources, page: int) -> ArticlePage:
    return await service.list_articles(resources, Page(page=page, per_page=PER_PAGE))


@memoize(ttl_seconds=300, tags=LIST_TAGS, type=ArticleList)
async def _popular(resources: Resources) -> ArticleList:
    return await service.list_popular(resources)


async def _news(**found: Any) -> str:
    popular = await _popular(resources())
    shown = {"query": "", "problem": "", "articles": [], "total": 0, "page": 1, "pages": 0} | found
    return await render_template("articles/news.html", popular=popular.articles, **shown)


@blueprint.get("/")
@hide
@live_page
async def news() -> str:
    page = validated(Page, request.args).page
    found = await _latest(resources(), page)
    return await _news(articles=found.articles, total=found.total, page=page, pages=found.pages)


@blueprint.get("/search")
@hide
# As one types there are several requests a word.
@rate_limit("120/minute", key=by_principal, scope="search-page")
@live_page
async def search_page() -> str:
    query = request.args.get("q", "")[:200]
    try:
        wanted = Search.model_validate({"q": query, "page": request.args.get("page", 1), "per_page": PER_PAGE})
    except ValidationError:
        return await _news(query=query, problem="Search for one to ten words.")
    found = await service.search_articles(resources(), wanted.q, wanted)
    return await _news(query=query, articles=found.results, total=found.total, page=wanted.page, pages=found.pages)


@blueprint.get("/articles/<int:article_id>")
@hide
@live_page
async def article_page(article_id: int) -> str:
    """Opening it counts a view."""
    article = (await service.read_article(resources(), article_id)).article
    author = None if article.author_id is None else await get_account(resources(), article.author_id)
    principal = current_principal_or_none()
    return await render_template(
        "articles/article.html",
        article=article,
        author=author.name if author else "",
        is_writable=principal is not None and service.may_write(principal, article.author_id),
    )
