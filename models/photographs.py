"""One photograph's file, decoded; without torch, so that a worker that decodes starts quickly."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import InputError, first_line


def read_photograph(file: Path, *, says: str = "", at_least: int | None = None) -> Image.Image:
    """Decode one file, turned as its EXIF data say, into "RGB"; what is transparent gets white.

    With `at_least`, a JPEG is decoded at a half, a quarter or an eighth of its size where its
    shorter side keeps as many pixels. `says` begins the messages.
    Raises InputError for a file that is no image, broken, or of 0 bytes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a camera's 100 MP
            with Image.open(file) as opened:
                if at_least is not None:
                    opened.draft(None, (at_least, at_least))  # does nothing but for JPEG
                opened.load()
                image = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        what = "is empty (0 bytes)" if file.stat().st_size == 0 else "is no image"
        raise InputError(
            f"{says}{file} {what}; leave only photographs that Pillow reads in the folder"
        ) from None
    except (PermissionError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{says}{file} cannot be read ({first_line(error)}); "
            f"make it readable, or smaller, or take it away"
        ) from None
    except Exception as error:  # decoders raise almost anything on damaged files
        raise InputError(
            f"{says}{file} is broken ({first_line(error)}); replace it or take it away"
        ) from None
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip them instead of scaling
        image = image.point(lambda value: value / 256).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
