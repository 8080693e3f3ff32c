"""The page of the API's document needs no other host, and no exception from the content security policy."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from quart.typing import TestClientProtocol as ClientProtocol

from app.pages import routes
from app.pages.routes import blueprint

STATIC = Path(routes.__file__).parent / "static"


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


@pytest.fixture
def client() -> ClientProtocol:
    app = Quart("pages", static_folder=str(STATIC))
    app.register_blueprint(blueprint)
    return app.test_client()


async def page(client: ClientProtocol) -> Tags:
    response = await client.get("/docs")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    return Tags(await response.get_data(as_text=True))


async def test_scripts_and_styles_are_files_of_ours(client: ClientProtocol) -> None:
    tags = await page(client)
    loaded: list[Any] = [attributes.get("src") or attributes.get("href") for _, attributes in tags.found]
    loaded = [address for address in loaded if address]
    assert len(loaded) >= 3
    for address in loaded:
        assert re.match(r"/(?!/)", address), address
        if address.startswith("/static/"):
            assert (await client.get(address)).status_code == 200


async def test_nothing_is_inline(client: ClientProtocol) -> None:
    tags = await page(client)
    assert tags.inline == ""
    names = {name for _, attributes in tags.found for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("file", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_static_files_name_no_other_host(file: Path) -> None:
    # A namespace is a name: nothing is fetched from it.
    text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|@import|url\(|(?<!:)//\w+\.\w", text)


def test_modules_import_each_other_by_files_that_exist() -> None:
    for script in STATIC.glob("*.js"):
        for target in re.findall(r"""from ["'](.+?)["']""", script.read_text()):
            assert (STATIC / target).is_file(), target


def test_scripts_never_turn_text_into_markup() -> None:
    for script in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script.read_text())
