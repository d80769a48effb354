"""Image files are read as a viewer shows them, and damaged ones are named."""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from reskeras.data.decode import BadImageError, central_box, inner_box, look, read_image, read_mask

PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40 + 10
"""Two rows, three columns, all different."""

# What a viewer does for each orientation tag (EXIF 2.32, table 6): from the stored rows to those
# that are shown.
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}


@pytest.mark.parametrize("tag", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_turned_images_are_upright(tag: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(PIXELS).convert("RGB").save(f"turned{suffix}", exif=exif, **options)
    shown = ORIENTATIONS[tag](PIXELS)
    found = read_image(f"turned{suffix}", (*shown.shape, 1), "stretch")
    np.testing.assert_array_equal(found[..., 0], shown)
    for thorough in (False, True):
        assert look(Path(f"turned{suffix}"), thorough=thorough).size == shown.shape


def test_a_jpeg_of_a_phone_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.repeat(np.repeat(PIXELS, 16, 0), 16, 1)
    Image.fromarray(stored).save("phone.jpg", exif=exif, quality=95)
    found = read_image("phone.jpg", (48, 32, 1), "stretch")[..., 0].astype(int)
    assert np.abs(found - ORIENTATIONS[6](stored)).max() <= 4


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("peak", "factor"), [(None, 257), (4095.0, 16), (255.0, 1)])
def test_more_than_8_bits_keep_all_of_them(suffix: str, peak: float | None, factor: int) -> None:
    deep = PIXELS.astype(np.uint16) * factor + (factor > 1)
    Image.fromarray(deep).save(f"deep{suffix}")
    found = read_image(f"deep{suffix}", (2, 3, 1), "stretch", peak)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], deep / (peak or 65535), rtol=1e-6)
    assert look(Path(f"deep{suffix}"), thorough=False).deep == (deep.min(), deep.max())
    np.testing.assert_array_equal(
        read_image(f"deep{suffix}", (2, 3, 3), "stretch", peak), np.repeat(found, 3, -1)
    )


def test_every_kind_of_pixel_becomes_gray_or_colors() -> None:
    color = np.array([[[255, 0, 0], [0, 128, 0], [9, 9, 200]]], np.uint8)
    image = Image.fromarray(color)
    see_through = image.convert("RGBA")
    see_through.putalpha(Image.fromarray(np.array([[255, 0, 128]], np.uint8)))
    palette = image.quantize(3)
    images = {
        "color.png": (image, color),
        "palette.png": (palette, np.asarray(palette.convert("RGB"))),
        "palette.gif": (palette, np.asarray(palette.convert("RGB"))),
        "gray.bmp": (
            image.convert("L"),
            np.repeat(np.asarray(image.convert("L"))[..., None], 3, -1),
        ),
        "bit.png": (
            Image.fromarray(np.array([[True, False, True]])),
            np.array([[[255] * 3, [0] * 3, [255] * 3]]),
        ),
        # Red is opaque, the second pixel is not seen, the third is half of white.
        "alpha.png": (see_through, np.array([[[255, 0, 0], [255] * 3, [132, 132, 227]]])),
        "alpha.webp": (see_through, np.array([[[255, 0, 0], [255] * 3, [132, 132, 227]]])),
        "cmyk.tif": (image.convert("CMYK"), color),
    }
    for name, (saved, shown) in images.items():
        saved.save(name, **({"lossless": True} if name.endswith("webp") else {}))
        found = read_image(name, (1, 3, 3), "stretch").astype(int)
        assert np.abs(found - shown).max() <= 1, name
        gray = read_image(name, (1, 3, 1), "stretch").astype(int)
        weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG
        assert np.abs(gray[..., 0] - shown @ weights).max() <= 1.5, name


def test_of_several_frames_the_first_is_read() -> None:
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (10, 200, 90)]
    frames[0].save("many.gif", save_all=True, append_images=frames[1:])
    assert (read_image("many.gif", (2, 2, 1), "stretch") == 10).all()
    assert look(Path("many.gif"), thorough=True).frames == 3


def test_images_shrink_by_averages() -> None:
    board = np.indices((8, 8)).sum(0) % 2 * 255  # by nearest neighbors this is black or white
    Image.fromarray(board.astype(np.uint8)).save("board.png")
    assert np.abs(read_image("board.png", (2, 2, 1), "stretch").astype(int) - 127).max() <= 12


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_several_frames_that_end_too_early_are_damaged(suffix: str) -> None:
    random = np.random.default_rng(0)
    frames = [Image.fromarray(random.integers(0, 256, (20, 20), dtype=np.uint8)) for _ in range(4)]
    path = Path(f"many.{suffix}")
    frames[0].save(path, save_all=True, append_images=frames[1:])
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 41):
        path.write_bytes(whole[:length])
        with contextlib.suppress(BadImageError):  # and nothing else
            look(path, thorough=False)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claims(width: int, height: int) -> bytes:
    """A PNG that is all header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif"])
def test_files_that_end_too_early_are_found_before_they_are_read(
    suffix: str, thorough: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    path = Path(f"whole.{suffix}")
    Image.fromarray(pixels).save(path)
    look(path, thorough=thorough)
    whole = path.read_bytes()
    for length in (0, 2, 8, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(BadImageError, match=r"empty|not a PNG|damaged"):
            look(path, thorough=thorough)


def test_what_is_no_image_says_why() -> None:
    def refused(content: bytes | None = None, name: str = "x.png") -> str:
        if content is not None:
            Path(name).write_bytes(content)
        with pytest.raises(BadImageError) as error:
            look(Path(name), thorough=False)
        return str(error.value)

    assert refused(b"<html>not found</html>") == "not a PNG, JPEG, GIF, BMP, WebP or TIFF image"
    assert "claims" in refused(claims(2**31 - 1, 1))
    assert "claims" in refused(claims(60_000, 60_000))
    assert "damaged" in refused(claims(0, 5)) or "not a PNG" in refused(claims(0, 5))
    Image.fromarray(PIXELS).save("x.png")
    content = bytearray(Path("x.png").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    assert "a checksum is wrong" in refused(bytes(content))
    Path("dangling.png").symlink_to("nothing.png")
    assert refused(name="dangling.png") == "a link to nothing"
    Path("loop.png").symlink_to("loop.png")
    assert refused(name="loop.png") == "a link to nothing"
    Path("folder.png").mkdir()
    os.mkfifo("pipe.png")
    assert refused(name="folder.png") == refused(name="pipe.png") == "not a regular file"


def test_other_proportions(tmp_path: Path) -> None:
    """By hand, and by Pillow's own `ImageOps.pad`."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "one.png")
    cropped = read_image(tmp_path / "one.png", (16, 16, 3), "crop")
    np.testing.assert_array_equal(cropped, pixels[8:24])
    padded = read_image(tmp_path / "one.png", (16, 16, 3), "pad")
    wanted = ImageOps.pad(image, (16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(padded, np.asarray(wanted))


@given(st.tuples(*[st.integers(1, 50)] * 2), st.tuples(*[st.integers(1, 50)] * 2))
def test_boxes(size: tuple[int, int], sides: tuple[int, int]) -> None:
    """A central box has the input's proportions, to a pixel, and lies in the center."""
    for (left, top, right, bottom), whole, other in [
        (central_box(size, sides), size, sides[::-1]),
        (inner_box(size, sides), sides[::-1], size),
    ]:
        width, height = right - left, bottom - top
        assert 0 <= left < right <= whole[0]
        assert 0 <= top < bottom <= whole[1]
        assert width == whole[0] or height == whole[1]
        scale = min(whole[0] / other[0], whole[1] / other[1])
        assert abs(width - max(1, scale * other[0])) <= 0.5 + 1e-9
        assert abs(height - max(1, scale * other[1])) <= 0.5 + 1e-9
        assert abs(left - (whole[0] - right)) <= 1
        assert abs(top - (whole[1] - bottom)) <= 1


def test_masks_in_formats_that_change_values_are_refused(tmp_path: Path) -> None:
    mask = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3)
    for name, form, reason in [
        ("jpeg.png", "JPEG", "JPEG and WebP change the values"),
        ("lossy.webp", "WEBP", "JPEG and WebP change the values"),
        ("some.gif", "GIF", "GIF renumbers its palette"),
    ]:
        mask.save(tmp_path / name, format=form)
        with pytest.raises(BadImageError, match=reason):
            read_mask(tmp_path / name)


def test_an_orientation_in_xmp_counts(tmp_path: Path) -> None:
    tags = PngImagePlugin.PngInfo()
    tags.add_itxt(
        "XML:com.adobe.xmp",
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/>'
        "</rdf:RDF></x:xmpmeta>",
    )
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", pnginfo=tags)
    shown = ImageOps.exif_transpose(Image.open(tmp_path / "turned.png"))
    assert look(tmp_path / "turned.png", thorough=False).size == shown.size[::-1] == (3, 2)


def test_colors_of_16_bits_are_said_to_be_cut(tmp_path: Path) -> None:
    """Pillow cannot write such a file: this one is written by hand."""
    rows = b"".join(b"\0" + np.arange(24, dtype=">u2").tobytes() for _ in range(8))

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "deep.png").write_bytes(png + chunk(b"IEND", b""))
    assert look(tmp_path / "deep.png", thorough=True).cut
    Image.fromarray(PIXELS).convert("RGB").save(tmp_path / "eight.png")
    assert not look(tmp_path / "eight.png", thorough=True).cut
