"""Images that users upload: the bounds, checked from the header, and the resizing, for a child process."""

import struct
from io import BytesIO

from PIL import Image, ImageOps

from app.errors import Invalid, UnsupportedMediaType

# By the first bytes, whatever the client says (WHATWG MIME Sniffing, 6.1).
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "WEBP": b"RIFF"}
UPLOADED = tuple(f"image/{kind.lower()}" for kind in SIGNATURES)
LONGEST_SIDE = 10_000
MOST_PIXELS = 16_000_000
SIDE = 256
MEDIA_TYPE = "image/webp"
QUALITY = 85
# What Pillow raises for a file that is not what its first bytes say.
NOT_AN_IMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, Image.DecompressionBombError)
# What Pillow raises for EXIF that is not what its tags say.
BAD_EXIF = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)


def check_image(data: bytes) -> None:
    """Reads the header alone. UnsupportedMediaType: no PNG, JPEG, GIF or WebP. Invalid: damaged, or too many pixels."""
    kind = _kind_of(data)
    if kind is None:
        raise UnsupportedMediaType("Send a PNG, JPEG, GIF or WebP image as the body.")
    try:
        width, height = Image.open(BytesIO(data), formats=(kind,)).size
    except NOT_AN_IMAGE:
        raise _invalid("is damaged") from None
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise _invalid(f"must have at most {MOST_PIXELS} pixels, and {LONGEST_SIDE} on a side")


def resize_image(data: bytes) -> bytes | None:
    """A square WebP of SIDE pixels from the middle, without metadata; None where `data` cannot be decoded.

    For a child process: decoding takes time and memory for each pixel. Of an animation it is the first frame.
    """
    try:
        check_image(data)
        with Image.open(BytesIO(data), formats=(str(_kind_of(data)),)) as image:
            # A JPEG is decoded at a fraction of its size; other formats ignore it.
            image.draft("RGB", (SIDE * 2, SIDE * 2))
            square = ImageOps.fit(_upright(image).convert("RGBA"), (SIDE, SIDE))
    except (*NOT_AN_IMAGE, Invalid, UnsupportedMediaType):
        return None
    encoded = BytesIO()
    # Pillow copies no EXIF, which may hold a place, unless it is given.
    square.info.clear()
    square.save(encoded, "WEBP", quality=QUALITY)
    return encoded.getvalue()


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except BAD_EXIF:
        # Damaged metadata is no damaged picture: it is shown as it is stored.
        return image


def _kind_of(data: bytes) -> str | None:
    kind = next((name for name, first in SIGNATURES.items() if data.startswith(first)), None)
    return None if kind == "WEBP" and data[8:12] != b"WEBP" else kind


def _invalid(reason: str) -> Invalid:
    return Invalid([{"loc": ["image"], "msg": reason}])
