import contextlib
import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bruno.data import load_image
from bruno.errors import MissingDataError, UserError
from tests.data.conftest import save
from tests.data.image_bytes import (
    FLOAT,
    SIGNED,
    TRUECOLOUR,
    UNSIGNED,
    WHITE_IS_ZERO,
    png,
    tiff,
)
from tests.fuzzing import fuzz_settings


def test_crops_the_centre_of_the_longer_side(tmp_path):
    pixels = np.zeros((20, 60), dtype=np.uint8)
    pixels[:, 20:40] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    assert load_image(path, image_size=20).eq(255).all()
    # The short side is brought to size first: half of 20 pixels is what lies around the middle.
    assert load_image(path, image_size=10)[0, :, 1:-1].eq(255).all()


def test_honours_exif_orientation(tmp_path):
    pixels = np.zeros((30, 30), dtype=np.uint8)
    pixels[:15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    path = tmp_path / "turned.png"
    Image.fromarray(pixels).save(path, exif=exif)
    seen = load_image(path, image_size=30)[0]
    assert seen.equal(torch.from_numpy(np.rot90(pixels, -1).copy()))


def test_transparency_becomes_background(tmp_path):
    path = save(tmp_path / "clear.png", (255, 255, 255, 0), mode="RGBA")
    assert load_image(path).eq(0).all()
    assert load_image(path, invert=True).eq(0).all()
    half = save(tmp_path / "half.png", (200, 100, 0, 128), mode="RGBA")
    colour = load_image(half, channels="colour")[:, 0, 0].tolist()
    assert colour == pytest.approx([100, 50, 0], abs=1)


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (30, 30), 1)
    image.putpalette([255, 0, 0, 0, 200, 0] + [0] * 762)
    image.paste(0, (0, 0, 15, 30))
    path = tmp_path / "palette.gif"
    image.save(path, transparency=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = load_image(path, image_size=30, channels="colour")
    assert seen[:, 5, 5].tolist() == [0, 0, 0]
    assert seen[:, 5, 25].tolist() == [0, 200, 0]


@pytest.mark.parametrize(
    ("mode", "colour", "name", "grey"),
    [
        ("1", 1, "bit.png", 255),
        ("L", 77, "grey.bmp", 77),
        ("LA", (90, 255), "alpha.png", 90),
        ("I;16", 0x4D00, "deep.png", 0x4D),
        ("CMYK", (0, 0, 0, 255), "print.tiff", 0),
        ("RGB", (60, 60, 60), "photo.jpg", 60),
        ("RGB", (60, 60, 60), "photo.webp", 60),
    ],
)
def test_formats_and_modes(tmp_path, mode, colour, name, grey):
    path = save(tmp_path / name, colour, mode=mode)
    image = load_image(path)
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.uint8
    assert image.float().sub(grey).abs().max() <= 2
    assert load_image(path, invert=True).float().sub(255 - grey).abs().max() <= 2


def test_load_image_errors(tmp_path):
    with pytest.raises(MissingDataError, match=r"path: .*gone.png not found"):
        load_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(UserError, match=r"path: .*text.png is not a readable image"):
        load_image(tmp_path / "text.png")
    with pytest.raises(UserError, match="is not a readable image"):
        load_image(tmp_path)


def squares(*levels, dtype):
    """Four equal rows, each a level; the squares of a file that is 4 x 4."""
    return np.repeat(np.array(levels, dtype=dtype)[:, None], 4, axis=1)


def written(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


U16 = squares(0, 257, 0x8080, 0xFFFF, dtype=np.uint16)
UNIT = squares(0, 1 / 255, 128 / 255, 1, dtype=np.float32)
DEEP = {
    "16-bit PNG": (png([row.byteswap().tobytes() for row in U16], 16), "deep.png"),
    "16-bit TIFF": (tiff(U16, UNSIGNED), "deep.tif"),
    "compressed 16-bit TIFF": (
        written(Image.fromarray(U16), "TIFF", compression="tiff_lzw"),
        "deep.tif",
    ),
    "16-bit TIFF, white is zero": (tiff(0xFFFF - U16, UNSIGNED, WHITE_IS_ZERO), "deep.tif"),
    "12-bit TIFF": (
        tiff(
            np.uint8([[0] * 6, [0x01, 0x00, 0x10] * 2, [0x80, 0x88, 0x08] * 2, [0xFF] * 6]),
            UNSIGNED,
            bits=12,
            width=4,
        ),
        "deep.tif",
    ),
    "float TIFF": (tiff(UNIT, FLOAT), "float.tif"),
    "float TIFF, white is zero": (tiff(1 - UNIT, FLOAT, WHITE_IS_ZERO), "float.tif"),
    "float TIFF of Pillow": (written(Image.fromarray(UNIT), "TIFF"), "float.tif"),
    "float PFM": (written(Image.fromarray(UNIT), "PPM"), "float.pfm"),
    "16-bit PGM": (written(Image.fromarray(U16.astype(np.int32)), "PPM"), "deep.pgm"),
    "10-bit PGM": (
        b"P2 4 4 1023 " + b" ".join(b"%d" % level for level in [0, 4, 514, 1023] for _ in range(4)),
        "deep.pgm",
    ),
    "16-bit JPEG 2000": (written(Image.fromarray(U16), "JPEG2000"), "deep.jp2"),
}


@pytest.mark.parametrize(("content", "name"), DEEP.values(), ids=DEEP)
def test_deep_grey_is_scaled_as_its_format_says(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    seen = load_image(path, image_size=4)[0]
    assert seen[:, 1].tolist() == [0, 1, 128, 255]
    assert (seen == seen[:, :1]).all()
    assert load_image(path, image_size=4, invert=True)[0].equal(255 - seen)
    assert load_image(path, image_size=4, channels="colour").equal(seen.expand(3, 4, 4))


I32 = squares(0, 1, 128, 255, dtype=np.int32)
UNCLEAR = {
    "floats above 1": (tiff(255 * UNIT, FLOAT), "floats from 0 to 255, where 0 is black and 1"),
    "floats below 0": (tiff(UNIT - 0.5, FLOAT), "floats from -0.5 to 0.5, where 0 is black"),
    "NaN": (tiff(UNIT * np.nan, FLOAT), "floats from nan to nan, where 0 is black"),
    "PFM above 1": (written(Image.fromarray(2 * UNIT), "PPM"), "floats from 0 to 2, where"),
    "SPIDER": (written(Image.fromarray(UNIT), "SPIDER"), "SPIDER of floats, which does not say"),
    "signed 8 bits": (tiff(squares(0, 1, -1, 127, dtype=np.int8), SIGNED), "signed integers"),
    "signed 16 bits": (tiff(squares(0, 1, -1, 300, dtype=np.int16), SIGNED), "signed integers"),
    "signed 32 bits": (tiff(I32, SIGNED), "TIFF of signed integers, which does not say what is"),
    "mode I of Pillow": (written(Image.fromarray(I32), "TIFF"), "TIFF of signed integers"),
    "32 bits": (tiff(I32.astype(np.uint32), UNSIGNED), "TIFF of integers of more than 8 bits, wh"),
}


@pytest.mark.parametrize(("content", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_numbers_without_a_meaning_are_refused(tmp_path, content, message):
    path = tmp_path / "unclear.image"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^path: .*unclear.image is not a readable .*{message}"):
        load_image(path)


KEYED = {
    "2 bits": png([b"\x1b"] * 4, 2, key=b"\0\1"),
    "4 bits": png([b"\x05\x0f"] * 4, 4, key=b"\0\5"),
    "8 bits": png([b"\x00\x10\x80\xff"] * 4, 8, key=b"\0\x10"),
    "16 bits": png([b"\0\0\x10\1\x80\0\xff\xff"] * 4, 16, key=b"\x10\1"),
    "colour": png(
        [b"\0\0\0" + b"\1\2\3" + b"\4\5\6" + b"\xff\xff\xff"] * 4,
        8,
        TRUECOLOUR,
        key=b"\0\1\0\2\0\3",
    ),
    "deep colour": png(
        [bytes(6) + b"\1\2\3\4\5\6" + b"\x10" * 6 + b"\xff" * 6] * 4,
        16,
        TRUECOLOUR,
        key=b"\1\2\3\4\5\6",
    ),
}


@pytest.mark.parametrize("content", KEYED.values(), ids=KEYED)
def test_a_level_that_stands_for_transparent_is_paper(tmp_path, content):
    path = tmp_path / "keyed.png"
    path.write_bytes(content)
    on_black = load_image(path, image_size=4)[0]
    assert on_black[:, 1].eq(0).all()
    assert on_black[:, 3].eq(255).all()
    inverted = load_image(path, image_size=4, invert=True)[0]
    assert inverted[:, 1].eq(0).all()
    assert inverted[:, 3].eq(0).all()


def drawn(mode, ink, clear):
    image = Image.new(mode, (40, 40), clear)
    ImageDraw.Draw(image).line((5, 5, 35, 35), ink, 6)
    return image


def keyed(index_ink):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, *index_ink] + [0] * 762)
    ImageDraw.Draw(image).line((5, 5, 35, 35), 1, 6)
    return image


BLACK_INK = {
    "RGBA.png": (drawn("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)), {}),
    "on clear white.png": (drawn("RGBA", (20, 20, 20, 255), (255, 255, 255, 0)), {}),
    "half.png": (drawn("RGBA", (0, 0, 0, 130), (0, 0, 0, 0)), {}),
    "blue.webp": (drawn("RGBA", (0, 0, 255, 255), (0, 0, 0, 0)), {"lossless": True}),
    "LA.png": (drawn("LA", (0, 255), (0, 0)), {}),
    "PA.png": (keyed((10, 10, 10)), {"transparency": 0}),
    "palette.gif": (keyed((10, 10, 10)), {"transparency": 0}),
    "alphas.png": (keyed((10, 10, 10)), {"transparency": bytes([0, 255])}),
}


@pytest.mark.parametrize(("image", "options"), BLACK_INK.values(), ids=BLACK_INK)
def test_dark_ink_on_transparent_paper_is_never_lost(tmp_path, image, options, request):
    name = request.node.callspec.id
    path = tmp_path / name
    image.save(path, **options)
    with pytest.warns(UserWarning, match=r"ink too dark to be seen on black.* made white; set inv"):
        seen = load_image(path)[0]
    assert seen[0, -1] == 255
    assert seen[14, 14] < 130
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bright = load_image(path, invert=True)[0]
    torch.testing.assert_close(bright, 255 - seen, rtol=0, atol=1)


def test_light_ink_on_transparent_paper_is_never_lost(tmp_path):
    path = tmp_path / "white.png"
    drawn("RGBA", (250, 250, 250, 255), (0, 0, 0, 0)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = load_image(path)[0]
    assert seen[0, -1] == 0
    assert seen[14, 14] == 250
    with pytest.warns(UserWarning, match=r"too light to be seen on white.* made black; leave out"):
        other = load_image(path, invert=True)[0]
    torch.testing.assert_close(other, 255 - seen, rtol=0, atol=1)


def test_what_is_opaque_or_all_clear_has_the_usual_paper(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dark = save(tmp_path / "dark.png", (9, 9, 9, 255), mode="RGBA")
        assert load_image(dark).eq(9).all()
        clear = save(tmp_path / "clear.png", (0, 0, 0, 0), mode="RGBA")
        assert load_image(clear).eq(0).all()
        assert load_image(clear, invert=True).eq(0).all()
        assert load_image(save(tmp_path / "lab.tif", (255, 128, 128), mode="LAB")).gt(250).all()


def every_format():
    """Return a small file of every format that Pillow writes and reads here."""
    Image.init()
    colours = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    made = {}
    for kind in sorted(Image.SAVE.keys() & Image.OPEN.keys() - {"EPS"}):  # runs Ghostscript
        for mode in ("RGB", "RGBA", "L", "P", "1", "I;16", "F"):
            with contextlib.suppress(Exception), warnings.catch_warnings():  # not all have all
                warnings.simplefilter("ignore")
                made[f"{kind} {mode}"] = written(Image.fromarray(colours).convert(mode), kind)
    return made


FORMATS = every_format()


def test_formats_of_plug_ins_are_among_those_that_are_damaged():
    kinds = {name.split()[0] for name in FORMATS}
    assert {"BLP", "DDS", "GIF", "ICNS", "ICO", "JPEG", "PNG", "PPM", "TGA", "TIFF"} <= kinds


@given(data=st.data())
@fuzz_settings(300)
def test_damaged_images_are_one_error_that_names_the_file(tmp_path_factory, data):
    content = bytearray(FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))])
    # Most fields that matter are in the header.
    places = st.one_of(st.integers(0, min(200, len(content)) - 1), st.integers(0, len(content) - 1))
    for place in data.draw(st.lists(places, max_size=8)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "damaged.image"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)  # of sizes made up by damage
        try:
            image = load_image(path, channels=data.draw(st.sampled_from(["grey", "colour"])))
        except UserError as error:
            assert str(error).startswith(f"path: {path} is not a readable image (")  # noqa: PT017
        else:
            assert image.dtype == torch.uint8
            assert image.shape[1:] == (28, 28)
