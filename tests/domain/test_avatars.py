"""Avatars: what is taken, what is shown, and what an upload may cost."""

import shutil
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from app.domain.users import store
from app.domain.users.avatar_image import MOST_PIXELS, SIDE, resize_image
from app.domain.users.service import set_roles
from app.domain.users.tasks import Upload, resize_avatar
from app.kit.tasks.context import TaskContext
from app.resources import Resources
from tests.application import create_test_app
from tests.domain.client import Client
from tests.waiting import eventually


def picture(kind: str = "PNG", *, size: tuple[int, int] = (640, 480), mode: str = "RGB", **options: object) -> bytes:
    encoded = BytesIO()
    Image.new(mode, size, "red" if mode.startswith("RGB") else 1).save(encoded, kind, **options)
    return encoded.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has hardly any bytes: a decompression bomb's outside."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def put(client: Client, data: bytes, *, user_id: int | None = None, kind: str = "image/png") -> int:
    path = f"/api/v1/users/{user_id or client.user_id}/avatar"
    sender = client.app.test_client(use_cookies=False)
    answer = await sender.put(path, data=data, headers={**client.headers, "Content-Type": kind})
    return answer.status_code


async def run_tasks(resources: Resources, user_id: int, version: str) -> str:
    context = TaskContext(id="x", name="x", attempt=1, owner=None, resources=resources, report=lambda percent: None)
    result: str = await resize_avatar.function(context, Upload(user_id, version))
    return result


async def version_of(resources: Resources, user_id: int) -> str:
    async with resources.database.read(primary=True) as session:
        avatar = await store.get_avatar(session, user_id)
    assert avatar is not None
    return avatar.version


async def resize(resources: Resources, user_id: int) -> str:
    return await run_tasks(resources, user_id, await version_of(resources, user_id))


async def avatar_url(client: Client) -> str | None:
    url: str | None = (await (await client.get(f"/users/{client.user_id}")).get_json())["avatar_url"]
    return url


async def shown(client: Client) -> Image.Image:
    url = await avatar_url(client)
    assert url is not None
    assert url.startswith("http://127.0.0.1:8000/api/v1/users/")
    answer = await client.get(url.partition("/api/v1")[2])
    assert (answer.status_code, answer.content_type) == (200, "image/webp")
    assert answer.headers["Cache-Control"].startswith("public")
    assert "Vary" not in answer.headers
    return Image.open(BytesIO(await answer.get_data(as_text=False)))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("JPEG", "L"),
    ],
)
async def test_an_image_becomes_a_square(client: Client, resources: Resources, kind: str, mode: str) -> None:
    ada = await client.registered()
    # The type that the client states does not matter.
    assert await put(ada, picture(kind, mode=mode), kind="text/plain") == 200
    assert await avatar_url(ada) is None
    assert await resize(resources, ada.user_id) == "resized"
    assert (await shown(ada)).size == (SIDE, SIDE)


async def test_a_new_picture_has_a_new_address_and_the_old_one_is_gone(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    urls = []
    for size in ((10, 20), (300, 1)):
        assert await put(ada, picture(size=size)) == 200
        assert await resize(resources, ada.user_id) == "resized"
        urls.append(str(await avatar_url(ada)))
    assert urls[0] != urls[1]
    assert (await ada.get(urls[0].partition("/api/v1")[2])).status_code == 404
    assert (await ada.delete(f"/users/{ada.user_id}/avatar")).status_code == 204
    assert await avatar_url(ada) is None
    assert (await ada.get(urls[1].partition("/api/v1")[2])).status_code == 404


async def test_of_two_uploads_the_later_is_shown_whichever_task_is_last(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    assert await put(ada, picture(size=(1, 1))) == 200
    first = await version_of(resources, ada.user_id)
    assert await put(ada, picture(size=(2, 2))) == 200
    assert await resize(resources, ada.user_id) == "resized"
    url = await avatar_url(ada)
    assert await run_tasks(resources, ada.user_id, first) == "outdated"
    # At least once: a repeat of the task changes nothing.
    assert await resize(resources, ada.user_id) == "outdated"
    assert await avatar_url(ada) == url


async def test_what_is_no_image_or_too_much_is_refused(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    for data, status in [
        (b"", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%PDF-1.7", 415),
        (picture("BMP"), 415),
        (picture("TIFF"), 415),
        (b"RIFF\0\0\0\0WAVE", 415),
        (b"\x89PNG\r\n\x1a\n", 422),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, 422),
        (b"GIF89a", 422),
        (b"RIFF\0\0\0\0WEBPVP8 ", 422),
        (png_header(4001, 4000), 422),
        (png_header(2**31 - 1, 2**31 - 1), 422),
        (png_header(10_001, 1), 422),
        (b"\x89PNG\r\n\x1a\n" + b"x" * (1 << 20), 413),
    ]:
        with subtests.test(f"{ascii(data):.40} {ascii(status):.40}"):
            assert await put(ada, data) == status


async def test_an_image_that_is_damaged_inside_leaves_the_earlier_one(client: Client, resources: Resources) -> None:
    ada = await client.registered()
    assert await put(ada, picture()) == 200
    assert await resize(resources, ada.user_id) == "resized"
    url = await avatar_url(ada)
    noise = picture("JPEG", size=(500, 500), quality=95)
    for broken in (png_header(3000, 3000), noise[: len(noise) // 2]):
        assert await put(ada, broken) == 200
        assert await resize(resources, ada.user_id) == "damaged"
        assert await avatar_url(ada) == url


def test_what_passes_the_header_is_bounded_in_the_child_too() -> None:
    assert (Image.MAX_IMAGE_PIXELS or 0) > MOST_PIXELS
    assert resize_image(png_header(5000, 5000)) is None
    assert resize_image(b"no image") is None


def test_an_image_is_turned_and_loses_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = "at home"
    wide = Image.new("RGB", (400, 200), "red")
    wide.paste("blue", (0, 0, 200, 200))
    encoded = BytesIO()
    wide.save(encoded, "JPEG", exif=exif)
    assert b"at home" in encoded.getvalue()
    made = resize_image(encoded.getvalue())
    assert made is not None
    assert b"at home" not in made
    square = Image.open(BytesIO(made)).convert("RGB")
    top, bottom = (square.getpixel((SIDE // 2, y)) for y in (10, SIDE - 10))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[2] > 200 > 60 > top[0]
    assert bottom[0] > 200 > 60 > bottom[2]


# Each byte makes Pillow raise another error when it writes the EXIF again: TypeError, struct.error.
@pytest.mark.parametrize(("place", "value"), [(75, 62), (85, 16), (107, 4), (107, 30), (109, 3), (119, 27), (121, 1)])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_metadata_is_no_damaged_image(place: int, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8769] = {0x9003: "2020"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    data = bytearray(picture("JPEG", size=(8, 8), quality=1, exif=exif))
    data[place] = value
    small = resize_image(bytes(data))
    assert small is not None
    assert Image.open(BytesIO(small)).size == (256, 256)


async def test_a_version_that_is_none_is_not_found(client: Client, subtests: pytest.Subtests) -> None:
    ada = await client.registered()
    for version in ["a%00b", "%ED%A0%80", "A" * 16, "0" * 15, "0" * 17, "a" * 5000, "0" * 15 + "%0A"]:
        with subtests.test(f"{ascii(version):.40}"):
            assert (await client.get(f"/users/{ada.user_id}/avatar/{version}")).status_code == 404


async def test_only_oneself_uploads_and_an_admin_may_delete(client: Client, resources: Resources) -> None:
    ada, eve = await client.registered("ada"), await client.registered("eve")
    assert await put(client, picture(), user_id=ada.user_id) == 401
    assert await put(eve, picture(), user_id=ada.user_id) == 403
    assert await put(ada, picture()) == 200
    assert (await eve.delete(f"/users/{ada.user_id}/avatar")).status_code == 403
    await set_roles(resources, eve.user_id, ["admin"])
    admin = await client.signed_in("eve")
    assert await put(admin, picture(), user_id=ada.user_id) == 403
    assert (await admin.delete(f"/users/{ada.user_id}/avatar")).status_code == 204


async def test_a_worker_resizes_it(sqlite_template: Path, tmp_path: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "app.db")
    app = create_test_app({"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"})
    async with app.test_app():
        ada = await Client(app).registered()
        assert await put(ada, picture()) == 200
        await eventually(lambda: avatar_url(ada), seconds=30)
        assert (await shown(ada)).size == (SIDE, SIDE)
