"""HTTP of articles."""

from quart import Blueprint, Response, jsonify
from quart.typing import ResponseReturnValue
from quart_schema import document_response, tag, validate_querystring, validate_request

from app.domain.articles import service
from app.domain.articles.schemas import (
    ArticleList,
    ArticleListing,
    ArticleQuery,
    ArticleShown,
    Draft,
    Search,
    SearchPage,
    Versioned,
)
from app.domain.articles.tags import LIST_TAGS
from app.domain.paging import page_links
from app.domain.users.tags import user_tag
from app.web.answers import answers
from app.web.caching.cached_view import cached_view
from app.web.conditions import write_condition
from app.web.context import resources
from app.web.idempotency import idempotent
from app.web.identity import auth
from app.web.limits.declare import rate_limit
from app.web.limits.subjects import by_principal
from app.web.links import link_to, links

blueprint = Blueprint("articles", __name__, url_prefix="/api/v1")
LIST = "articles.list_articles"
# Clients and proxies may store it, and revalidate each time.
PUBLIC = {"Cache-Control": "public, no-cache"}


@blueprint.get("/articles")
@cached_view(60, tags=LIST_TAGS, query=("page", "per_page", "cursor"), public=True)
@answers(200, headers=("Link",))
@tag(["articles"])
@validate_querystring(ArticleQuery)
@document_response(ArticleListing)
async def list_articles(query_args: ArticleQuery) -> Response:
    """A page of articles, the latest first.

    Pages shift when an article is published. With `cursor`, the `next_cursor` of a response, a reader gets each article
    once; `total`, `pages` and `current_page` are left out then. The header Link has the addresses of other pages.
    """
    size = query_args.per_page
    if query_args.cursor is None:
        page = await service.list_articles(resources(), query_args)
        response = jsonify(page)
        response.headers.update(page_links(LIST, page=page.current_page, pages=page.pages, per_page=size))
        return response
    after = await service.list_articles_after(resources(), query_args.cursor, limit=size)
    response = jsonify(after)
    if after.next_cursor:
        response.headers.update(links(LIST, {"next": {"cursor": after.next_cursor, "per_page": size}}))
    # There are more cursors than a cache should hold.
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/search")
@rate_limit("30/minute", key=by_principal)
@answers(200, headers=("Link",))
@tag(["articles"])
@validate_querystring(Search)
@document_response(SearchPage)
async def search(query_args: Search) -> Response:
    """The articles that have all words of `q`, the latest first; of more than a thousand the last thousand."""
    found = await service.search_articles(resources(), query_args.q, query_args)
    response = jsonify(found)
    size, q = query_args.per_page, query_args.q
    others = page_links("articles.search", page=found.current_page, pages=found.pages, per_page=size, q=q)
    response.headers.update(others)
    return response


@blueprint.get("/articles/popular")
@cached_view(300, tags=LIST_TAGS, public=True)
@tag(["articles"])
@document_response(ArticleList)
async def list_popular() -> Response:
    """The ten most read articles."""
    return jsonify(await service.list_popular(resources()))


@blueprint.get("/users/<int:user_id>/articles")
@cached_view(600, tags=lambda user_id: user_tag(user_id), public=True)
@tag(["articles"])
@document_response(ArticleList)
async def list_by_author(user_id: int) -> Response:
    """A user's articles, the latest first, at most a hundred."""
    return jsonify(await service.list_by_author(resources(), user_id))


@blueprint.get("/articles/<int:article_id>")
@answers(304, 412, 503)
@tag(["articles"])
@document_response(ArticleShown)
async def get_article(article_id: int) -> Response:
    """An article. Reading it counts as a view, whether the response is 200 or 304."""
    found = await service.read_article(resources(), article_id)
    response = _answer(found)
    response.headers.update(PUBLIC)
    return response


@blueprint.post("/articles")
@idempotent
@auth.require_auth("api_key", "session", "cookie")
@tag(["articles"])
@validate_request(Draft)
@document_response(ArticleShown, 201)
async def create_article(data: Draft) -> ResponseReturnValue:
    """Publish an article. Its summary and keywords follow in the background."""
    created = await service.create_article(
        resources(), auth.current_principal(), title=data.title, content=data.content
    )
    return _answer(created), 201, {"Location": link_to("articles.get_article", article_id=created.article.id)}


@blueprint.put("/articles/<int:article_id>")
@answers(412)
@auth.require_auth()
@tag(["articles"])
@validate_request(Draft)
@document_response(ArticleShown)
async def change_article(article_id: int, data: Draft) -> Response:
    """Change an article, as its author. If-Match and If-None-Match may name its state."""
    changed = await service.change_article(
        resources(),
        auth.current_principal(),
        article_id,
        title=data.title,
        content=data.content,
        condition=write_condition(_edit),
    )
    return _answer(changed)


@blueprint.delete("/articles/<int:article_id>")
@answers(412)
@auth.require_auth()
@tag(["articles"])
async def delete_article(article_id: int) -> ResponseReturnValue:
    """Delete an article, as its author. If-Match and If-None-Match may name its state."""
    await service.delete_article(resources(), auth.current_principal(), article_id, condition=write_condition(_edit))
    return "", 204


def _answer(found: Versioned) -> Response:
    """The ETag is the version and the version that the summary is of. Views do not change it."""
    response = jsonify(found.article)
    response.set_etag(f"{found.version}.{found.processed_version}")
    return response


def _edit(etag: str) -> str:
    """The version alone: a summary made since is no conflict with an edit."""
    return etag.partition(".")[0]
