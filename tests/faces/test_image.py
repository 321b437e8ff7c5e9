import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from expraug.errors import ImageTooLargeError, UnreadableImageError
from expraug.faces.image import as_array, like, read_image, to_array


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]


def in_mode(face, mode):
    if mode == "I;16":
        return Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257)
    if mode in ("P", "PA"):
        return face.quantize(256).convert(mode)
    return face.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_grey_or_rgb(mode, neutral_images):
    face = Image.fromarray(neutral_images[0])
    image = in_mode(face, mode)
    assert image.mode == mode
    array = to_array(image)
    assert array.dtype == np.uint8
    assert array.shape in ((256, 256), (256, 256, 3))
    expected = np.asarray(face.convert("L"), np.float64)
    found = np.asarray(Image.fromarray(array).convert("L"), np.float64)
    if mode != "1":  # dithering keeps only the mean
        assert np.abs(found - expected).mean() < 8, "the face must keep its brightness"
    assert abs(found.mean() - expected.mean()) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_undone(orientation, neutral_images):
    upright = neutral_images[0][:200]
    undone = like(upright, _tagged(Image.fromarray(upright), orientation))
    turned = Image.open(io.BytesIO(encoded(undone, exif=_exif(orientation))))
    assert np.array_equal(to_array(turned), upright)
    assert np.array_equal(np.asarray(like(to_array(turned), turned)), np.asarray(turned))


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _tagged(image, orientation):
    return Image.open(io.BytesIO(encoded(image, exif=_exif(orientation))))


def test_alpha_is_kept(neutral_images):
    image = Image.fromarray(neutral_images[0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L"))
    back = like(to_array(image), image)
    assert back.mode == "RGBA"
    assert np.array_equal(np.asarray(back), np.asarray(image))


def test_damaged_files(tmp_path, neutral_images):
    whole = encoded(Image.fromarray(neutral_images[0]), "JPEG")
    for name, data in {"cut.jpg": whole[:2000], "empty.png": b"", "text.png": b"hello"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=r"missing\.png"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(UnreadableImageError, match="1x1, too small"):
        read_image(encoded(Image.new("L", (1, 1))))


def test_large_files_are_refused_before_they_are_decoded():
    data = encoded(Image.new("1", (12_000, 12_000)))
    with pytest.raises(ImageTooLargeError, match="12000x12000 is over the limit"):
        read_image(data)
    assert read_image(encoded(Image.new("1", (100, 90))), max_pixels=9000).shape == (90, 100)


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(16, 20)] * 2, st.sampled_from([1, 3]))))
def test_arrays_tensors_and_pil_agree(array):
    expected = array[:, :, 0] if array.shape[2] == 1 else array
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = (array, tensor, tensor.float() / 255, array / 255, Image.fromarray(expected))
    for form in forms:
        assert np.array_equal(as_array(form), expected)


@pytest.mark.parametrize("wrong", [np.zeros((20, 20, 4), np.uint8), torch.zeros(2, 3, 20, 20),
                                   np.zeros((20, 20), np.int32)])  # fmt: skip
def test_other_arrays_are_errors(wrong):
    with pytest.raises(ValueError, match="grey or RGB"):
        as_array(wrong)


def test_files_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would never end
    with pytest.raises(ImageTooLargeError, match="raise max_bytes"):
        read_image(path)
    Image.new("L", (20, 20)).save(tmp_path / "small.png")
    data = (tmp_path / "small.png").read_bytes()
    assert read_image(data, max_bytes=len(data)).shape == (20, 20)
    with pytest.raises(ImageTooLargeError):
        read_image(data, max_bytes=len(data) - 1)


def test_a_raised_limit_holds_against_pillows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(ImageTooLargeError):
        read_image(tmp_path / "a.png", max_pixels=1000)
    assert read_image(tmp_path / "a.png", max_pixels=10_000).shape == (100, 100)


def test_no_outside_program_is_run_for_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*arguments: object, **_: object) -> None:
        raise AssertionError(f"ran {arguments}")

    monkeypatch.setattr("subprocess.Popen.__init__", forbidden)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match="not an image in a known format"):
        read_image(tmp_path / "a.jpg")
