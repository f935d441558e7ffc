"""Proves that images come in as float RGB in [0, 1] without silent loss, that everything else is refused by name,
and that what is written reads back.

Real files made with PIL (or by hand, where PIL cannot write them) go through the public functions.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smalti.images import (
    Resize,
    check_images,
    image_grid,
    read_images,
    resize_images,
    to_pil,
    to_uint8,
    write_image,
    write_images,
)


def noise(*shape: int, high: int = 256, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def png(path: Path, width: int, height: int, *, depth: int = 8, color: int = 2, rows: bytes | None = None) -> Path:
    """A PNG written chunk by chunk: for headers and depths that PIL does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = b"" if rows is None else chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))
    return path


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_rgb_file_is_exact(tmp_path):
    pixels = noise(7, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = read_images(tmp_path / "a.png")
    assert images.shape == (1, 3, 7, 5)
    assert images.dtype == torch.float32
    assert torch.equal(images[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    assert torch.equal(read_images(str(tmp_path / "a.png")), images)


def test_every_source_gives_the_same_image(tmp_path):
    pixels = noise(6, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    sources = [tmp_path / "a.png", Image.fromarray(pixels), pixels, pixels[None], pixels / 255.0, tensor, tensor / 255]
    images = read_images(sources)
    assert images.shape == (7, 3, 6, 4)
    for image in images:
        assert torch.allclose(image, images[0], atol=1e-7)


def test_grayscale_and_alpha_arrays():
    gray, rgba = noise(5, 5), noise(5, 5, 4)
    assert torch.equal(read_images(gray)[0, 1], torch.from_numpy(gray) / 255)
    a = rgba[..., 3:] / 255.0
    expected = rgba[..., :3] / 255.0 * a + (1 - a)
    assert np.allclose(read_images(rgba)[0].permute(1, 2, 0), expected, atol=1e-6)


def test_alpha_goes_over_the_background(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert torch.equal(read_images(tmp_path / "clear.png"), torch.ones(1, 3, 4, 4))
    black = read_images(tmp_path / "clear.png", background=(0, 0, 0))
    assert torch.equal(black, torch.zeros(1, 3, 4, 4))
    half = read_images(Image.new("RGBA", (1, 1), (255, 0, 0, 51)))[0, :, 0, 0]
    assert torch.allclose(half, torch.tensor([1.0, 0.8, 0.8]))


def test_palette_with_and_without_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png")
    assert read_images(tmp_path / "p.png")[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1]]
    picture.save(tmp_path / "t.png", transparency=1)
    assert read_images(tmp_path / "t.png")[0, :, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_sixteen_bit_grayscale_is_lossless(tmp_path):
    pixels = noise(5, 6, high=65536, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    Image.fromarray(pixels).save(tmp_path / "deep.tif")
    (tmp_path / "deep.pgm").write_bytes(b"P5 6 5 65535\n" + pixels.astype(">u2").tobytes())
    for name in ("deep.png", "deep.tif", "deep.pgm"):
        images = read_images(tmp_path / name)
        assert np.array_equal(np.rint(images[0, 2].double().numpy() * 65535), pixels), name
    assert torch.equal(read_images(pixels), read_images(tmp_path / "deep.png"))


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to see it upright
    pixels = noise(4, 8, 3)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1) / 255
    assert torch.equal(read_images(tmp_path / "turned.png")[0], upright)


def test_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (3, 3), c) for c in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_images(tmp_path / "a.gif", frame=1)[0, :, 0, 0].tolist() == [0, 1, 0]


def test_size_makes_one_batch():
    images = read_images([noise(8, 12, 3), noise(20, 9, 3)], size=6)
    assert images.shape == (2, 3, 6, 6)
    check_images(images)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_absent_folder_and_not_an_image(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cat\.png"):
        read_images(tmp_path / "cat.png")
    with pytest.raises(ValueError, match="is a folder"):
        read_images(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.png is not an image that can be read"):
        read_images(tmp_path / "text.png")


def test_formats_that_start_a_program_are_refused(tmp_path):
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"a\.eps is not an image that can be read"):
        read_images(tmp_path / "a.eps")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_truncated(tmp_path, name):
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(ValueError, match=rf"{name} (is not an image|cannot be decoded)"):
        read_images(tmp_path / name)


def test_too_large_is_seen_in_the_header(tmp_path):
    bomb = png(tmp_path / "bomb.png", 20_000, 8_000)  # holds no pixels at all: decoding would fail otherwise
    with pytest.raises(ValueError, match=r"bomb\.png is 20000x8000 = 160 megapixels.*not decoded"):
        read_images(bomb)
    with pytest.raises(ValueError, match=r"huge\.png is too large"):
        read_images(png(tmp_path / "huge.png", 60_000, 60_000))
    with pytest.raises(ValueError, match="more than max_pixels=100"):
        read_images(Image.new("RGB", (11, 10)), max_pixels=100)


def test_animated_and_cmyk(tmp_path):
    frames = [Image.new("RGB", (3, 3), c) for c in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"a\.gif is animated.*2 frames.*frame=0"):
        read_images(tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"a\.gif has frames 0 to 1, got frame=2"):
        read_images(tmp_path / "a.gif", frame=2)
    Image.new("CMYK", (4, 4)).save(tmp_path / "print.jpg")
    with pytest.raises(ValueError, match=r"print\.jpg is CMYK"):
        read_images(tmp_path / "print.jpg")


def deep_files(tmp_path: Path) -> list[Path]:
    values = noise(2, 2, 3, high=65536, dtype=np.uint16).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    ppm = tmp_path / "deep.ppm"
    ppm.write_bytes(b"P6 2 2 65535\n" + values.tobytes())
    tags = [(256, 3, 2), (257, 3, 2), (258, 3, 16), (259, 3, 1), (262, 3, 2), (273, 4, 200), (277, 3, 3), (278, 3, 2)]
    tags.append((279, 4, 24))
    entries = b"".join(struct.pack("<HHI", t, k, 1) + struct.pack("<I", v) for t, k, v in tags)
    entries = entries.replace(struct.pack("<HHII", 258, 3, 1, 16), struct.pack("<HHII", 258, 3, 3, 190))
    tiff = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    tiff = tiff.ljust(190, b"\0") + struct.pack("<HHH", 16, 16, 16)
    (tmp_path / "deep.tif").write_bytes(tiff.ljust(200, b"\0") + values.astype("<u2").tobytes())
    return [png(tmp_path / "deep.png", 2, 2, depth=16, rows=rows), ppm, tmp_path / "deep.tif"]


def test_sixteen_bit_color_is_never_cut(tmp_path):
    for path in deep_files(tmp_path):
        assert Image.open(path).mode == "RGB", "the file is not what the test means"
        with pytest.raises(ValueError, match=rf"{path.name} has more than 8 bit per color channel"):
            read_images(path)


def test_deep_avif_and_jpeg2000_are_refused_and_shallow_ones_read(tmp_path):
    for name in ("a.avif", "a.jp2"):
        path = tmp_path / name
        Image.fromarray(noise(32, 32, 3)).save(path)
        assert read_images(path).shape == (1, 3, 32, 32)
        data = bytearray(path.read_bytes())
        if name == "a.avif":
            data[data.find(b"av1C") + 6] |= 0x40
        else:
            data[data.find(b"\xff\x4f\xff\x51") + 42] = 11
        path.write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_images(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (noise(3, 8, 8), "channels go last"),
        (torch.rand(8, 8, 3), "channels go first"),
        (noise(8, 8, 2), r"got an array \[8, 8, 2\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got an array \[0, 4, 3\]"),
        (noise(4, 4, 3).astype(np.int32), "int32; allowed are uint8"),
        (noise(4, 4, 3).astype(np.float32), "x / 255"),
        (np.full((4, 4), np.nan), "got float pixels in"),
        (torch.rand(3, 4, 4) * 2 - 1, r"\(x \+ 1\) / 2"),
        (Image.new("I", (2, 2), 70000), "PIL mode I"),
        (Image.new("F", (2, 2), 3.0), "outside"),
        (Image.new("LAB", (2, 2)), "PIL mode LAB"),
        ({"a": 1}, "cannot read an image from str|no image file"),
        ([3], "cannot read an image from int"),
        ([], "sequence is empty"),
        ([noise(4, 4), noise(4, 5)], r"different sizes \(4x4, 4x5\).*size="),
    ],
)
def test_ambiguous_input_is_an_error(source, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_images(source)


def test_absurd_size_and_background():
    with pytest.raises(ValueError, match="size=0"):
        read_images(noise(4, 4), size=0)
    with pytest.raises(ValueError, match="size=200000"):
        read_images(noise(4, 4), size=200_000)
    with pytest.raises(ValueError, match="background"):
        read_images(noise(4, 4), background=(255, 255, 255))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"images\.float\(\) / 255"),
        (torch.rand(3, 4, 4), r"images\[None\]"),
        (torch.rand(1, 1, 4, 4), "grayscale"),
        (torch.rand(1, 4, 4, 4), "alpha"),
        (torch.rand(1, 8, 8, 3), "permute"),
        (torch.rand(1, 3, 4, 4) * 255, "images / 255"),
        (torch.rand(1, 3, 4, 4) * 2 - 1, r"\(images \+ 1\) / 2"),
        (torch.full((1, 3, 4, 4), torch.nan), "NaN"),
        (torch.tensor([0.5, torch.inf] * 24).view(1, 3, 4, 4), "infinite"),
        (np.zeros((1, 3, 4, 4)), "got ndarray"),
    ],
)
def test_check_images_says_what_to_do(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)


def test_check_images_tolerates_rounding():
    check_images(torch.tensor([-5e-5, 1 + 5e-5, 0.5]).view(1, 3, 1, 1))
    with pytest.raises(ValueError, match="got values in"):
        check_images(torch.tensor([-5e-4, 1.0, 0.5]).view(1, 3, 1, 1))


# ---- resizing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "lanczos", "area"])
def test_resize_keeps_a_constant_and_the_range(kernel):
    resize = Resize(kernel=kernel)
    for size in (5, 40):
        constant = resize_images(torch.full((2, 3, 16, 24), 0.25), size, resize)
        assert constant.shape == (2, 3, size, size)
        assert torch.allclose(constant, torch.tensor(0.25), atol=1e-6)
        check_images(resize_images((torch.rand(1, 3, 16, 24) > 0.5).float(), size, resize))


def test_center_crop_and_stretch_see_different_pixels():
    images = torch.zeros(1, 3, 4, 8)
    images[..., 2:6] = 1
    assert torch.equal(resize_images(images, 4, Resize()), torch.ones(1, 3, 4, 4))
    assert resize_images(images, 4, Resize(crop="none", kernel="area"))[0, 0, 0].tolist() == [0, 1, 1, 0]


def test_lanczos_is_that_of_pil_on_floats():
    images = torch.rand(1, 3, 20, 20)
    plane = Image.fromarray(images[0, 1].numpy()).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.allclose(resize_images(images, 8, Resize(kernel="lanczos"))[0, 1], np.asarray(plane).clip(0, 1))


def test_antialias_matters_and_is_named():
    stripes = (torch.arange(32) % 2).float().expand(1, 3, 32, 32)
    assert resize_images(stripes, 8, Resize()).std() < resize_images(stripes, 8, Resize(antialias=False)).std() + 0.1
    assert torch.allclose(resize_images(stripes, 8, Resize())[..., 2:-2], torch.tensor(0.5), atol=0.05)
    assert str(Resize()) == "center crop to square, bicubic (antialias)"
    assert str(Resize(antialias=False)) == "center crop to square, bicubic"
    assert str(Resize(kernel="area", crop="none")) == "stretched to a square, area"


def test_resize_refuses_settings_without_effect():
    with pytest.raises(ValueError, match="no effect"):
        Resize(kernel="lanczos", antialias=False)
    with pytest.raises(ValueError, match="allowed: bicubic"):
        Resize(kernel="nearest")  # type: ignore[arg-type]


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_rounding_is_half_up():
    values = torch.tensor([0, 0.5 / 255, 0.499 / 255, 1, 1.00005, 127.5 / 255])
    assert to_uint8(values).tolist() == [0, 1, 0, 255, 255, 128]
    assert torch.equal(to_uint8(torch.arange(256) / 255), torch.arange(256, dtype=torch.uint8))


def test_written_files_read_back(tmp_path):
    images = torch.from_numpy(noise(3, 3, 5, 4)).float() / 255
    paths = write_images(images, tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["0000.png", "0001.png", "0002.png"]
    assert torch.equal(read_images(paths), images)
    named = write_images(images, tmp_path, names=["a", "b.png", "c"])
    assert [p.name for p in named] == ["a.png", "b.png", "c.png"]
    assert torch.equal(read_images(write_images(images, [tmp_path / f"x{i}.png" for i in range(3)])), images)
    assert not list(tmp_path.rglob("*.part"))


def test_written_clips_move(tmp_path):
    clips = torch.from_numpy(noise(6, 3, 5, 4)).float().view(2, 3, 3, 5, 4) / 255
    paths = write_images(clips, tmp_path)
    assert [p.name for p in paths] == ["0000.png", "0001.png"]
    for path, clip in zip(paths, clips, strict=True):
        frames = [read_images(path, frame=i)[0] for i in range(clip.shape[1])]
        assert torch.equal(torch.stack(frames, dim=1), clip)
        with Image.open(path) as picture:
            assert (picture.n_frames, picture.info["duration"]) == (3, 40)
    with pytest.raises(ValueError, match="got values"):
        write_images(clips * 2, tmp_path)


def test_writing_refuses(tmp_path):
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match="PNG"):
        write_image(images[0], tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="not a plain file name"):
        write_images(images, tmp_path, names=["../a", "b"])
    with pytest.raises(ValueError, match="as many different"):
        write_images(images, tmp_path, names=["a", "a"])
    with pytest.raises(ValueError, match="either a folder and names"):
        write_images(images, [tmp_path / "a.png"], names=["a"])
    with pytest.raises(ValueError, match="got 2 images"):
        to_pil(images)
    with pytest.raises(ValueError, match="got values"):
        write_image(images[0] * 3, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_grid_places_images_row_by_row():
    images = torch.stack([torch.full((3, 2, 3), v) for v in (0.1, 0.2, 0.3)])
    grid = image_grid(images, 2, pad=1)
    assert grid.shape == (3, 7, 9)
    assert torch.allclose(grid[0, 1:3, 1:4], torch.tensor(0.1))
    assert torch.allclose(grid[0, 1:3, 5:8], torch.tensor(0.2))
    assert torch.allclose(grid[0, 4:6, 1:4], torch.tensor(0.3))
    assert (grid[0, 4:6, 5:8] == 1).all()
    assert (grid[:, 0] == 1).all()
    assert image_grid(images, 9, pad=0).shape == (3, 2, 9)
