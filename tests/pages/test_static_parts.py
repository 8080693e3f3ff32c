"""Pages need no other host, and no exception from the content security policy."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quart.testing import QuartClient

from tests.application import create_test_app

APP = Path(__file__).parent.parent.parent / "app"
STATIC = [file for folder in APP.rglob("static") for file in sorted(folder.iterdir())]
SCRIPTS = [file for file in STATIC if file.suffix == ".js"]
TEMPLATES = [file for folder in APP.rglob("templates") for file in sorted(folder.rglob("*.html"))]


class Tags(HTMLParser):
    """Collects each tag with its attributes, and the text inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in {"script", "style"}:
            self.inline += data.strip()


async def page(client: QuartClient) -> Tags:
    response = await client.get("/docs")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    return Tags(await response.get_data(as_text=True))


async def test_scripts_and_styles_are_files_of_ours(client: QuartClient) -> None:
    tags = await page(client)
    loaded: list[Any] = [attributes.get("src") or attributes.get("href") for _, attributes in tags.found]
    loaded = [address for address in loaded if address and not address.startswith(("#", "data:image/"))]
    assert len(loaded) >= 3
    for address in loaded:
        assert re.match(r"/(?!/)", address), address
        if address.startswith("/static/"):
            assert (await client.get(address)).status_code == 200


async def test_nothing_is_inline(client: QuartClient) -> None:
    tags = await page(client)
    assert tags.inline == ""
    names = {name for _, attributes in tags.found for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("file", STATIC, ids=lambda path: path.name)
def test_static_files_name_no_other_host(file: Path) -> None:
    # A namespace is a name: nothing is fetched from it.
    text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|@import|url\(|(?<!:)//\w+\.\w", text)


def test_modules_import_each_other_by_files_that_exist() -> None:
    for script in SCRIPTS:
        for target in re.findall(r"""from ["'](.+?)["']""", script.read_text()):
            # A slice's scripts import the general ones by their address.
            name = target.removeprefix("/static/")
            assert (script.parent / name).is_file() or (APP / "pages" / "static" / name).is_file(), target


def test_scripts_never_turn_text_into_markup() -> None:
    for script in SCRIPTS:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script.read_text())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_escape_everything_and_hold_no_script_and_no_style(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"\|\s*safe\b|autoescape|<style|\sstyle=|\son\w+=|javascript:", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)


def test_nothing_but_open_files_is_where_no_session_is_read() -> None:
    """`reads_session()` goes by the path: a view there would not know who asks."""
    app: Any = create_test_app({"ENVIRONMENT": "testing"})
    rules = list(app.url_map.iter_rules())
    sessionless = {rule.endpoint for rule in rules if not app.reads_session(SimpleNamespace(path=rule.rule))}
    # The general ones, and a slice's own.
    assert {"static", "news.static", "cart_pages.static"} <= sessionless
    assert sessionless == {rule.endpoint for rule in rules if rule.endpoint.rpartition(".")[2] == "static"}
