from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.errors import UnsupportedExpressionError
from expraug.faces import CropDetector
from expraug.faces.composite import face_mask, luminance
from expraug.faces.synthesized import SynthesizedFaces
from expraug.networks.embedder import FaceEmbedder
from expraug.networks.onset import RHYTHM, onset
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from expraug.synthesizers.fevgan.net import ENCODERS, along_time
from expraug.synthesizers.fevgan.synthesizer import between, frame_of, steadied, when

HAPPY, SAD, ANGRY = Expression.HAPPY, Expression.SAD, Expression.ANGRY
NEUTRAL = Expression.NEUTRAL
NAMES = ["sad", "surprise", "happy"]  # not in the order of `Expression`


def make(
    size: int = 32, encoders: str = "both", strength: float = 0.03, **settings: Any
) -> FEVGANSynthesizer:
    """A tiny one that changes faces, as if it had been trained."""
    torch.manual_seed(0)
    channels = {32: (32, 16, 16, 8), 64: (32, 16, 16, 16, 8)}[size]
    made = FEVGANSynthesizer(NAMES, size, 8, channels, 6, encoders, **settings)
    nn.init.normal_(made.net.head.weight, std=strength)
    for layers in (made.net.lips, made.net.interior):
        nn.init.normal_(layers[-1].weight, std=strength)
    nn.init.normal_(made.net.mouth.last.weight, std=0.01)
    with torch.no_grad():
        made.net.label.weight.mul_(3)
        made.net.mouth.last.bias.copy_(shut_lips().flatten())
        made.codes.normal_()
    return made.eval().requires_grad_(False)


def shut_lips() -> Tensor:
    """Where the lips of most faces are, (2, 11, 2)."""
    upper = torch.stack([torch.linspace(0.38, 0.62, 11), torch.full((11,), 0.71)], 1)
    return torch.stack([upper, upper])


@pytest.fixture
def model() -> FEVGANSynthesizer:
    return make()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("fevgan")
    make(64, strength=0.1).save_pretrained(path)
    return str(path)


def request(count: int = 3, size: int = 32) -> tuple[Tensor, Tensor]:
    """Coloured faces far from black and white, and a target for each."""
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(count, 3, size, size, generator=generator) * 0.2 + 0.4
    return faces, torch.tensor([int(Expression.parse(NAMES[i % 3])) for i in range(count)])


def maps_of(model: FEVGANSynthesizer, faces: Tensor, target: Tensor) -> ExpressionMaps:
    """What the net says of each frame of clips of usual speed, of the first variant."""
    row = model.row[target]
    z = F.pad(model.codes[row, 0], (RHYTHM, 0))
    return model.net(luminance(faces), row, z)


def test_any_expression_from_a_neutral_or_unknown_face() -> None:
    fresh = create_synthesizer("fevgan", pretrained=False, expressions=NAMES)
    assert isinstance(fresh, FEVGANSynthesizer)
    assert (fresh.image_size, fresh.frames) == (64, 16)
    assert fresh.expressions == (SAD, Expression.SURPRISE, HAPPY)
    assert fresh.supports(None, HAPPY)
    assert fresh.supports(NEUTRAL, HAPPY)
    assert not fresh.supports(ANGRY, HAPPY)
    assert not fresh.supports(NEUTRAL, ANGRY)
    assert not fresh.supports(None, NEUTRAL)
    assert sum(p.numel() for p in fresh.parameters()) < 7_000_000
    frozen = [p.requires_grad for p in fresh.net.identity.parameters()]
    assert not any(frozen)


def test_a_target_that_it_does_not_have(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    target[1] = int(NEUTRAL)
    with pytest.raises(UnsupportedExpressionError, match="cannot make neutral; it can make sad"):
        model(faces, target, torch.ones(3))
    with pytest.raises(UnsupportedExpressionError, match="cannot make neutral"):
        model.clip(faces, target, 4)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["happy", "neutral"], {}, "leave neutral out"),
        (NAMES, {"image_size": 96}, "image_size must be 4 times a power of 2"),
        (NAMES, {"image_size": 128}, "image_size must be 4 times a power of 2"),
        (NAMES, {"channels": (32, 16, 16, 8, 8)}, "multiples of 16, the last of 8"),
        (NAMES, {"frames": 12}, "frames must be 2 times a power of 2, at most 16"),
        (NAMES, {"frames": 32}, "frames must be 2 times a power of 2, at most 16"),
        (NAMES, {"encoders": "none"}, "encoders is one of both, identity, spatial"),
        (NAMES, {"noise": 2}, "noise at least 3"),
        (NAMES, {"variants": 0}, "a variant at least"),
    ],
)
def test_other_settings_are_refused(names: list[str], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FEVGANSynthesizer(names, **settings)


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([32, 64]),
    st.sampled_from(ENCODERS),
    st.integers(0, 3),
)
def test_shape_dtype_and_range(seed: int, size: int, encoders: str, count: int) -> None:
    made, dtype = make(size, encoders, strength=20), torch.float32
    torch.manual_seed(seed)
    faces = torch.rand(count, 3, size, size)
    target = torch.tensor([int(SAD), int(HAPPY), int(SAD)])[:count]
    out = made(faces, target, torch.tensor([0.3, 1.0, 0.9])[:count])
    assert (out.shape, out.dtype) == (faces.shape, dtype)
    assert ((out >= 0) & (out <= 1)).all()
    for frames in (2, 5):
        clip = made.clip(faces, target, frames)
        assert (clip.shape, clip.dtype) == ((count, frames, 3, size, size), dtype)
        assert torch.equal(clip[:, 0], faces), "the first frame is the source"


def test_no_intensity_is_the_source_to_the_bit(model: FEVGANSynthesizer) -> None:
    torch.manual_seed(2)
    faces, target = torch.rand(3, 3, 32, 32), request()[1]
    assert torch.equal(model(faces, target, torch.zeros(3)), faces)
    assert not torch.equal(model(faces, target, torch.ones(3)), faces)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(faces, target, torch.zeros(3)), faces)


def test_a_faces_bytes_do_not_depend_on_its_neighbours(model: FEVGANSynthesizer) -> None:
    faces, target = request(5)
    strength = torch.linspace(0.2, 1, 5)
    together = model(faces, target, strength)
    alone = [model(faces[i : i + 1], target[i : i + 1], strength[i : i + 1]) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))
    clips = model.clip(faces, target, 6)
    assert torch.equal(clips[3:4], model.clip(faces[3:4], target[3:4], 6))


def test_a_face_is_the_last_frame_gone_as_far_as_is_asked(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    full = model.synthesize_clip(faces, target, model.frames)[-1].flow
    for far in (0.3, 1.0):
        flow = model.synthesize(faces, target, torch.full((3,), far)).flow
        assert torch.allclose(flow, far * full, atol=1e-5)
    clip = model.clip(faces, target, model.frames)
    assert torch.allclose(model(faces, target, torch.ones(3)), clip[:, -1], atol=1e-5)


def test_a_clip_comes_to_rest_when_the_onset_does(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    maps = maps_of(model, faces, target)
    raw = [frame_of(maps, k, model.frames) for k in range(model.frames)]
    come = onset(torch.zeros(1, 2), model.frames)[0]
    ended = int((come > 0.99).float().argmax())
    assert 0 < ended < model.frames - 1
    assert (raw[ended].flow - raw[-1].flow).abs().max() > 1e-4, "left alone, it would drift"
    made = steadied(raw)
    for k, (own, then) in enumerate(zip(raw, made, strict=True)):
        for part in ("flow", "lightening", "moved_lips"):
            before, now, end, last = (getattr(m, part) for m in (own, then, raw[ended], raw[-1]))
            wanted = last if k >= ended else before + come[k] * (last - end)
            assert torch.allclose(now, wanted, atol=1e-6), (k, part)


@pytest.mark.parametrize("frames", [2, 5, 16, 40])
def test_a_clip_has_an_onset_as_long_as_itself(frames: int) -> None:
    come = onset(torch.zeros(1, 2), 16)[0]
    told = when(16, frames)
    share = [torch.lerp(come[a], come[a + 1], s) for a, s in told]
    wave = 0.5 - 0.5 * torch.cos(torch.linspace(0, torch.pi, frames))
    assert torch.allclose(torch.stack(share), wave, atol=1e-4)
    assert [a + s for a, s in told] == sorted(a + s for a, s in told)


def test_frames_of_a_clip_lie_between_its_own(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    clip = model.clip(faces, target, 9)
    maps = maps_of(model, faces, target)
    frames = steadied([frame_of(maps, k, 8) for k in range(8)])
    for i, (start, share) in enumerate(when(8, 9)):
        far = torch.full((3,), share)
        made = between(frames[start], frames[start + 1], far).applied(faces).render(faces)
        assert torch.allclose(clip[:, i], made, atol=1e-5)
    ends_alone = model.clip(faces, target, 2)
    assert torch.allclose(ends_alone, clip[:, [0, -1]], atol=1e-6)


def test_colours_move_and_are_lit_but_stay_what_they_are(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    for last in (model.net.head, model.net.lips[-1]):
        nn.init.zeros_(last.weight)
    nn.init.zeros_(model.net.lips[-1].bias)
    assert torch.equal(model(faces, target, torch.ones(3)), faces)
    nn.init.normal_(model.net.head.weight[2:], std=0.1)
    lit = model(faces, target, torch.ones(3)) / faces
    assert (lit - 1).abs().max() > 0.01
    assert torch.allclose(lit, lit[:, :1].expand_as(lit), atol=1e-5)
    nn.init.zeros_(model.net.head.weight[2:])
    nn.init.normal_(model.net.head.weight[:2], std=0.03)
    moved = model(faces, target, torch.ones(3))
    assert (moved - faces).abs().max() > 0.01
    for channel in range(3):  # nothing is shown that was not there, but for the cubic's overshoot
        assert moved[:, channel].max() <= faces[:, channel].max() + 0.06
        assert moved[:, channel].min() >= faces[:, channel].min() - 0.06


def test_shape_and_light_have_a_strength_each(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    # in the order of `NAMES`: sad, surprise, happy
    other, full = make(), torch.ones(3)
    other.strength.copy_(torch.tensor([[2.0, 1.0], [1.0, 0.0], [0.0, 3.0]]))
    usual, much = (m.synthesize(faces, target, full) for m in (model, other))
    for number, factor in enumerate((2, 1, 0)):
        assert torch.allclose(much.flow[number], factor * usual.flow[number], atol=1e-6)
    dark = other.synthesize(faces, target, full).render(faces)
    # surprise: it moves as before, and nothing is lit; happy: the other way round
    warped = SynthesizedFaces(torch.zeros(3, 3, 1, 1), usual.flow).render(faces)
    assert torch.allclose(dark[1], warped[1], atol=1e-5)
    assert not torch.allclose(dark[2], faces[2], atol=1e-3)
    clip = other.synthesize_clip(faces, target, 8)
    assert torch.allclose(clip[-1].flow, much.flow, atol=1e-5)


def test_lips_that_part_are_painted_and_others_are_not() -> None:
    model, faces = make(64), torch.rand(2, 3, 64, 64) * 0.2 + 0.5
    target = torch.tensor([int(HAPPY), int(HAPPY)])
    for last in (model.net.head, model.net.lips[-1]):
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    nn.init.zeros_(model.net.mouth.last.weight)
    assert not model.synthesize(faces, target, torch.ones(2)).matte.any()
    # what says where lips go tells frames apart by their features alone
    wide = torch.zeros(2, 11, 2)
    wide[1, 1:-1, 1] = 0.1
    features = model.net.lips[0].out_features
    model.net.lips[-1].weight.copy_(wide.flatten()[:, None].expand(-1, features))
    moved = maps_of(model, faces, target)
    opening = (moved.moved_lips - moved.lips)[:, 1, 5, 1].view(2, -1)
    assert (opening[:, 0] == 0).all()
    made = model.synthesize(faces, target, torch.ones(2))
    opened = opening[:, -1] > 0.03
    assert made.matte.flatten(1).amax(1).gt(0.5).tolist() == opened.tolist()


def test_variants_are_the_codes(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    several, full = make(variants=3), torch.ones(3)
    made = [several(faces, target, full, variant=torch.full((3,), k)) for k in range(3)]
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert (made[one] - made[two]).abs().mean() > 1e-4
    assert torch.equal(several(faces, target, full), made[0]), "the first if none is named"
    each = several(faces, target, full, variant=torch.tensor([2, 0, 1]))
    assert torch.allclose(each, torch.stack([made[2][0], made[0][1], made[1][2]]), atol=1e-6)
    clip = several.clip(faces, target, 8, variant=torch.full((3,), 2))
    assert torch.allclose(clip[:, -1], made[2], atol=1e-5)


@pytest.mark.parametrize("encoders", ENCODERS)
def test_each_target_and_each_face_is_changed_in_its_own_way(encoders: str) -> None:
    model = make(encoders=encoders)
    faces, target = request()
    made = model(faces[:1].expand(3, -1, -1, -1), target, torch.ones(3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (made[i] - made[j]).abs().mean() > 1e-3
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 0.4 + 0.3
    one, two = model(faces, torch.full((2,), int(HAPPY)), torch.ones(2)) - faces
    assert not torch.allclose(one[0], two[0], atol=1e-4), "what it sees tells"
    background = torch.where(face_mask(32) > 0, faces, faces.flip(0))
    asked = (torch.full((2,), int(HAPPY)), torch.ones(2))
    seen, hidden = (model.synthesize(x, *asked) for x in (faces, background))
    assert torch.allclose(seen.flow, hidden.flow, atol=1e-5), "the background tells nothing"


@pytest.mark.parametrize("encoders", ENCODERS)
def test_the_encoders_that_feed_it(encoders: str) -> None:
    model = make(encoders=encoders)
    faces, target = request()
    before = model(faces, target, torch.ones(3))
    for weight in model.net.identity.parameters():
        weight.normal_()
    after = model(faces, target, torch.ones(3))
    assert torch.equal(before, after) == (encoders == "spatial")
    assert (model.net.spatial is None) == (encoders == "identity")


def test_each_number_of_the_noise_changes_the_clip(model: FEVGANSynthesizer) -> None:
    grey, category = torch.rand(2, 1, 32, 32), torch.tensor([0, 2])
    none = model.net(grey, category, torch.zeros(2, 6)).flow
    for place in range(6):
        z = torch.zeros(2, 6)
        z[:, place] = 2
        assert not torch.allclose(model.net(grey, category, z).flow, none, atol=1e-5), place


def test_some_frames_are_those_of_the_whole_clip(model: FEVGANSynthesizer) -> None:
    faces, target = request()
    row, z = model.row[target], torch.randn(3, 6)
    whole = model.net(luminance(faces), row, z)
    shown = torch.tensor([[0, 7], [3, 4], [6, 2]])
    some = model.net(luminance(faces), row, z, shown)
    place = (8 * torch.arange(3)[:, None] + shown).flatten()
    for name in ("flow", "lightening", "lips", "moved_lips", "interior"):
        assert torch.allclose(getattr(some, name), getattr(whole, name)[place], atol=1e-5), name
    assert not some.flow[0].any()
    assert torch.equal(some.moved_lips[0], some.lips[0])


def test_a_layer_along_time_is_one_on_each_pixels_row_of_frames() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, (3, 1), padding=(1, 0))
    x = torch.randn(2 * 6, 3, 4, 5)
    row = nn.Conv1d(3, 5, 3, padding=1)
    row.weight.data, row.bias = layer.weight.data[..., 0], layer.bias
    pixels = x.view(2, 6, 3, 4, 5).permute(0, 3, 4, 2, 1).reshape(-1, 3, 6)
    wanted = row(pixels).view(2, 4, 5, 5, 6).permute(0, 4, 3, 1, 2).flatten(0, 1)
    assert torch.allclose(along_time(layer, x, 6), wanted, atol=1e-5)


def test_vectors_of_faces() -> None:
    torch.manual_seed(0)
    net = FaceEmbedder()
    assert sum(p.numel() for p in net.parameters()) < 1_500_000
    faces = torch.rand(3, 1, 64, 64)
    found = net(faces)
    assert found.shape == (3, 128)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(net(faces[1:2]), found[1:2], atol=1e-5), "nor do neighbours"
    background = torch.where(face_mask(64) > 0, faces, torch.rand_like(faces))
    assert torch.equal(net(background), found)
    assert net(torch.rand(2, 1, 128, 128)).shape == (2, 128)


@pytest.mark.parametrize("encoders", ENCODERS)
def test_saved_and_loaded_it_makes_the_same_clips(encoders: str, tmp_path: Path) -> None:
    model = make(encoders=encoders)
    model.save_pretrained(tmp_path)
    again = create_synthesizer(str(tmp_path))
    assert isinstance(again, FEVGANSynthesizer)
    assert again.config == model.config
    faces, target = request()
    made, expected = (m.clip(faces, target, 8) for m in (again, model))
    assert (made - expected).abs().mean() < 1e-3  # weights are kept as fp16
    assert again.fingerprint == create_synthesizer(str(tmp_path)).fingerprint


def test_faces_through_the_augmenter(folder: str, neutral_images: list[np.ndarray]) -> None:
    augmenter = ExpressionAugmenter(folder, alignment=CropDetector(), check_landmarks=False)
    grey = neutral_images[2][:, :, 0]
    outcomes = augmenter(
        [*neutral_images[:2], grey],
        [SynthesisRequest(HAPPY), SynthesisRequest(SAD, 0.5), SynthesisRequest(HAPPY)],
    )
    assert augmenter.stats == {"made": 3}
    for outcome, image in zip(outcomes, [*neutral_images[:2], grey], strict=True):
        assert (outcome.image.shape, outcome.image.dtype) == (image.shape, np.uint8)
        assert np.abs(outcome.image.astype(int) - image).max() > 5
        away = np.abs(outcome.image.astype(int) - image)
        assert away[:6, :6].mean() < 0.3 * away[64:192, 64:192].mean(), "corners hardly move"
