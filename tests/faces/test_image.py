import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from expraug.errors import ImageTooLargeError, RejectedError, UnreadableImageError
from expraug.faces.image import as_array, as_given, like, read_image, to_array


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


GREY_OR_RGB = ["L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
MODES = [*GREY_OR_RGB, "1", "P", "PA", "I", "F", "I;16", "I;16B", "I;16L"]


def in_mode(face, mode):
    if mode in ("I;16", "I;16B", "I;16L"):
        deep = Image.fromarray(np.asarray(face.convert("L")).astype(np.int32) * 257)
        return deep.convert(mode)
    if mode in ("P", "PA"):
        return face.quantize(256).convert(mode)
    if mode in ("La", "RGBa"):
        return face.convert(mode.upper()).convert(mode)
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
    undone = like(upright, upright, _tagged(Image.fromarray(upright), orientation))
    turned = Image.open(io.BytesIO(encoded(undone, exif=_exif(orientation))))
    assert np.array_equal(to_array(turned), upright)
    back = like(to_array(turned), to_array(turned), turned)
    assert np.array_equal(np.asarray(back), np.asarray(turned))


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _tagged(image, orientation):
    return Image.open(io.BytesIO(encoded(image, exif=_exif(orientation))))


def test_alpha_is_kept(neutral_images):
    image = Image.fromarray(neutral_images[0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L"))
    back = like(to_array(image), to_array(image), image)
    assert back.mode == "RGBA"
    assert np.array_equal(np.asarray(back), np.asarray(image))


def brighter_mouth(array):
    """A change of a third of the picture, as large as a smile's."""
    made = array.copy()
    part = made[150:220, 60:200]
    made[150:220, 60:200] = np.where(part > 127, part - 60, part + 60)
    return made


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "1"])
def test_a_changed_image_keeps_its_mode(mode, neutral_images):
    image = in_mode(Image.fromarray(neutral_images[0]), mode)
    image.info["note"] = "kept"
    source = to_array(image)
    made = brighter_mouth(source)
    back = as_given(made, source, image)
    assert (back.mode, back.size) == (image.mode, image.size)
    assert back.info["note"] == "kept"
    before, after = np.asarray(image), np.asarray(back)
    assert (before.dtype, before.shape) == (after.dtype, after.shape), "a batch must collate"
    assert np.array_equal(after[:150], before[:150]), "what did not change must stay to the bit"
    seen = to_array(back).astype(int)
    lost, change = np.abs(seen - made).mean(), np.abs(made.astype(int) - source).mean()
    assert lost < (0.5 if mode in ("P", "PA") else 0.2) * change


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_rare_mode_that_is_turned(orientation, neutral_images):
    grey = in_mode(Image.fromarray(neutral_images[0]), "I;16")
    image = Image.open(io.BytesIO(encoded(grey, exif=_exif(orientation))))
    source = to_array(image)
    made = brighter_mouth(source)
    back = like(made, source, image)
    assert back.mode == image.mode == "I;16"
    assert np.abs(to_array(back).astype(int) - made).max() <= 1


def test_modes_without_room_for_a_change_say_so(neutral_images):
    face = Image.fromarray(neutral_images[0])
    for image in (face.convert("1"), face.quantize(2)):
        source = to_array(image)
        made = source.copy()
        made[150:220, 60:200] = np.abs(made[150:220, 60:200].astype(int) - 40)
        with pytest.raises(RejectedError, match="cannot hold another expression") as caught:
            like(made, source, image)
        assert caught.value.reason == "image_mode"


@pytest.mark.parametrize("value", [-1.0, 70_000.0, float("nan"), float("inf")])
def test_grey_floats_of_no_known_range_are_unreadable(value):
    values = np.full((20, 20), 0.5, np.float32)
    values[3, 3] = value
    with pytest.raises(UnreadableImageError, match="grey values must be in"):
        to_array(Image.fromarray(values))


@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.bfloat16])
def test_floats_outside_of_0_to_1_are_refused(value, kind):
    if isinstance(kind, torch.dtype):
        image = torch.full((3, 20, 20), 0.5, dtype=kind)
        image[0, 3, 3] = value
    else:
        image = np.full((20, 20, 3), 0.5, kind)
        image[3, 3, 0] = value
    with pytest.raises(ValueError, match="before Normalize"):
        as_array(image)


def test_floats_change_within_0_and_1():
    """What comes out goes in again."""
    source = np.full((20, 20), 200, np.uint8)
    made = np.full((20, 20), 255, np.uint8)
    made[5:] = 0
    for low in (199.6, 200.4):  # both are 200 in 8 bits
        values = np.full((20, 20), low / 255, np.float32)
        for image in (
            values,
            torch.from_numpy(values)[None],
            torch.from_numpy(values)[None].half(),
        ):
            assert np.array_equal(as_array(image), source)
            back = as_given(made, source, image)
            assert back.dtype == image.dtype
            assert 0 <= float(back.min()) <= float(back.max()) <= 1
            assert np.array_equal(as_array(back), made)


def test_gradients_and_bfloat16_pass():
    source = np.full((20, 20), 100, np.uint8)
    made = source + np.uint8(50)
    image = torch.full((1, 20, 20), 100 / 255, requires_grad=True)
    back = as_given(made, as_array(image), image)
    back.sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))
    low = (torch.full((1, 20, 20), 100 / 255)).bfloat16()
    assert as_given(made, as_array(low), low).dtype == torch.bfloat16


def test_arrays_come_back_writable():
    source = np.zeros((20, 20), np.uint8)
    made = np.full((20, 20), 9, np.uint8)
    made.flags.writeable = False  # as the cache's are
    assert as_given(made, source, source[..., None]).flags.writeable


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
                                   np.zeros((20, 20), np.int32), torch.zeros(20, 20, 3),
                                   torch.zeros(3, 20, 20, dtype=torch.complex64), "face.jpg",
                                   [np.zeros((20, 20, 3), np.uint8)] * 2, None])  # fmt: skip
def test_other_arrays_are_errors(wrong):
    with pytest.raises(ValueError, match=r"grey or RGB.*\(H, W, 1 or 3\) array"):
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
