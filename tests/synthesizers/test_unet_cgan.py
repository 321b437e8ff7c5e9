from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.errors import UnsupportedExpressionError
from expraug.faces import CropDetector
from expraug.faces.composite import luminance
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.unet_cgan import UNet, UNetCGANSynthesizer
from expraug.transforms.torchvision import RandomExpression

HAPPY, SAD, ANGRY = Expression.HAPPY, Expression.SAD, Expression.ANGRY
NAMES = ["sad", "neutral", "happy"]  # not in the order of `Expression`
SCHEME = ["happy", "neutral"]


def awake(model: nn.Module, std: float = 0.02) -> None:
    """Give a fresh net, by which nothing changes, changes that differ between categories."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if any(head in name for head in ("moving", "places", "usual")):
            nn.init.normal_(weight, std=std, generator=generator)
        elif "scale" in name or "shift" in name:
            weight.data += 0.5 * torch.randn(weight.shape, generator=generator)


def made_awake(size: int, std: float, variants: int = 1) -> UNetCGANSynthesizer:
    torch.manual_seed(0)
    made = UNetCGANSynthesizer(NAMES, image_size=size, width=8, variants=variants, code=4)
    awake(made, std)
    made.codes.copy_(torch.randn(made.codes.shape))
    return made.eval().requires_grad_(False)


@pytest.fixture
def model() -> UNetCGANSynthesizer:
    return made_awake(32, 0.5, variants=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a net that visibly changes faces, as `create_synthesizer` takes them."""
    path = tmp_path_factory.mktemp("unet_cgan")
    made_awake(64, 0.3).save_pretrained(path)
    return str(path)


def request(count: int = 3) -> tuple[Tensor, Tensor]:
    """Coloured faces far from black and white, and a target for each."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 0.3 + 0.35
    faces = F.interpolate(coarse, (32, 32), mode="bilinear")
    return faces, torch.tensor([int(Expression.parse(NAMES[i % 3])) for i in range(count)])


def of(maps: ExpressionMaps) -> tuple[Tensor, ...]:
    """The tensors of the maps."""
    return tuple(getattr(maps, f.name) for f in fields(maps))


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    net = UNet(categories=2, image_size=16, width=8, code=3).double()
    awake(net, std=0.3)
    names, weights = zip(*net.named_parameters(), strict=True)
    grey = torch.rand(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    category, code = torch.tensor([0, 1]), torch.randn(2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, *w: of(
            functional_call(net, dict(zip(names, w, strict=True)), (x, category, code))
        ),
        (grey, *weights),
        fast_mode=True,
    )


def test_the_gradient_reaches_every_parameter_once_the_heads_are_awake() -> None:
    torch.manual_seed(0)
    net = UNet(categories=3, image_size=32, width=8, code=3)
    given = torch.rand(3, 1, 32, 32), torch.arange(3), torch.randn(3, 3)
    fresh = net(*given)
    assert not fresh.flow.any(), "by a fresh net nothing moves"
    assert not fresh.lightening.any()
    assert torch.equal(fresh.lips, fresh.moved_lips)
    sum(part.sum() for part in of(fresh)).backward()
    moved = [name for name, w in net.named_parameters() if w.grad is not None and w.grad.any()]
    assert moved == [f"{name}.weight" for name in ("moving", "places", "usual", "usual_by_code")]
    awake(net)
    net.zero_grad()
    sum((part * torch.randn(part.shape)).sum() for part in of(net(*given))).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        # rows of an embedding are categories, each of which was asked for
        assert weight.grad.flatten(1).any(1).all() if weight.ndim > 1 else weight.grad.any(), name


def test_what_a_net_says_is_within_what_faces_do() -> None:
    torch.manual_seed(0)
    net = UNet(categories=3, image_size=32, width=8, code=3)
    awake(net, std=500)
    maps = net(torch.rand(6, 1, 32, 32), torch.arange(6) % 3, 5 * torch.randn(6, 3))
    assert 0.2 < maps.flow.abs().max() <= 0.25
    assert 0.4 < maps.lightening.abs().max() <= 0.5
    assert 0.15 < (maps.moved_lips - maps.lips).abs().max() <= 0.2 + 1e-6
    assert maps.interior.abs().max() <= 1


def test_any_expression_from_any_face_but_its_own() -> None:
    fresh = create_synthesizer("unet_cgan", pretrained=False, expressions=NAMES)
    assert isinstance(fresh, UNetCGANSynthesizer)
    assert fresh.expressions == (SAD, Expression.NEUTRAL, HAPPY)
    assert not fresh.needs_landmarks
    assert fresh.supports(None, HAPPY)
    assert fresh.supports(ANGRY, HAPPY)  # the source need not be among what it makes
    assert not fresh.supports(HAPPY, HAPPY)
    assert not fresh.supports(HAPPY, ANGRY)


def test_a_target_that_it_does_not_have(model: UNetCGANSynthesizer) -> None:
    faces, target = request()
    target[1] = int(ANGRY)
    with pytest.raises(UnsupportedExpressionError, match="cannot make angry; it can make sad"):
        model(faces, target, torch.ones(3))


@pytest.mark.parametrize("size", [100, 120, 127])
def test_sizes_that_cannot_be_halved_four_times_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 16 and width of 8, not {size}"):
        UNetCGANSynthesizer(NAMES, image_size=size, width=8)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([16, 48, 64]), st.sampled_from([64, 128]))
def test_shape_dtype_and_range(seed: int, size: int, side: int) -> None:
    torch.manual_seed(seed)
    made = UNetCGANSynthesizer(NAMES, image_size=size, width=8)
    awake(made, std=2)  # far out of range
    faces = torch.rand(2, 3, side, side)  # of another side than the net sees
    out = made(faces, torch.tensor([int(SAD), int(HAPPY)]), torch.tensor([0.3, 1.0]))
    assert (out.shape, out.dtype) == (faces.shape, faces.dtype)
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.equal(out, faces)


def test_no_intensity_is_the_source_to_the_bit(model: UNetCGANSynthesizer) -> None:
    faces, target = torch.rand(3, 3, 32, 32), request()[1]
    assert torch.equal(model(faces, target, torch.zeros(3)), faces)
    assert not torch.equal(model(faces, target, torch.ones(3)), faces)


@pytest.mark.parametrize("intensity", [0.1, 0.5, 0.9])
def test_intensity_is_how_far_parts_move(model: UNetCGANSynthesizer, intensity: float) -> None:
    faces, target = request()
    full = model.synthesize(faces, target, torch.ones(3))
    # each face has its own intensity
    asked = torch.tensor([intensity, 1.0, 0.0])
    some = model.synthesize(faces, target, asked)
    assert full.flow is not None
    assert some.flow is not None
    assert full.flow.abs().amax((1, 2, 3)).min() > 0.005
    assert torch.allclose(some.flow, asked.view(-1, 1, 1, 1) * full.flow, atol=1e-6)
    assert not some.change[2].any()


def test_a_category_can_be_stronger_than_the_others(model: UNetCGANSynthesizer) -> None:
    faces, _ = request()
    target = torch.tensor([int(HAPPY), int(SAD), int(HAPPY)])
    usual = model.synthesize(faces, target, torch.ones(3))
    model.strength[NAMES.index("happy"), 0] = 1.5
    strong = model.synthesize(faces, target, torch.ones(3))
    assert usual.flow is not None
    assert strong.flow is not None
    scale = torch.tensor([1.5, 1.0, 1.5]).view(-1, 1, 1, 1)
    assert torch.allclose(strong.flow, scale * usual.flow, atol=1e-6)
    model.strength[:] = torch.tensor([1.0, 0.0])
    unlit = model.synthesize(faces, target, torch.ones(3))
    assert torch.equal(unlit.flow, usual.flow)
    assert unlit.change.abs().mean() < usual.change.abs().mean()


def test_variants_are_other_ways_to_show_the_same(model: UNetCGANSynthesizer) -> None:
    faces, _ = request()
    same = faces[:1].expand(4, -1, -1, -1)
    target, ones = torch.full((4,), int(HAPPY)), torch.ones(4)
    made = model(same, target, ones, variant=torch.tensor([0, 1, 2, 0]))
    assert torch.equal(made[0], made[3])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (made[i] - made[j]).abs().mean() > 1e-4
    assert torch.equal(model(same, target, ones), made[:1].expand(4, -1, -1, -1))


def test_grey_stays_grey_and_the_net_sees_only_luminance(model: UNetCGANSynthesizer) -> None:
    faces, target = request()
    grey = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    made = model(grey, target, torch.ones(3))
    assert torch.allclose(made[:, 0], made[:, 1], atol=1e-6)
    assert torch.allclose(made[:, 0], made[:, 2], atol=1e-6)
    same = luminance(faces).expand(-1, 3, -1, -1)
    one, other = (model.synthesize(f, target, torch.ones(3)).flow for f in (faces, same))
    assert one is not None
    assert other is not None
    assert torch.allclose(one, other, atol=1e-5)


def test_each_target_changes_the_face_in_its_own_way(model: UNetCGANSynthesizer) -> None:
    faces, target = request()
    made = model(faces[:1].expand(3, -1, -1, -1), target, torch.ones(3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (made[i] - made[j]).abs().mean() > 1e-4


def test_categories_follow_the_order_of_the_expressions(model: UNetCGANSynthesizer) -> None:
    """The same generator behind another order answers to other targets."""
    order = ["happy", "neutral", "sad"]
    other = UNetCGANSynthesizer(order, image_size=32, width=8, variants=3, code=4)
    other.load_state_dict(model.state_dict())
    faces, _ = request()
    happy, sad = (torch.full((3,), int(e)) for e in (HAPPY, SAD))
    ones = torch.ones(3)
    assert torch.equal(model(faces, happy, ones), other(faces, sad, ones))
    assert not torch.equal(model(faces, happy, ones), other(faces, happy, ones))


def test_saved_and_loaded_it_makes_the_same_faces(
    model: UNetCGANSynthesizer, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = create_synthesizer(str(tmp_path))
    assert isinstance(again, UNetCGANSynthesizer)
    assert (again.expressions, again.image_size) == (model.expressions, 32)
    faces, target = request()
    made, expected = (m(faces, target, torch.ones(3)) for m in (again, model))
    assert not torch.equal(expected, faces)
    assert torch.allclose(made, expected, atol=1e-3)  # weights are kept as fp16
    weights = dict(model.named_parameters())
    assert all(torch.equal(w, weights[name].half().float()) for name, w in again.named_parameters())
    assert again.variants == 3
    assert torch.equal(again.codes, model.codes.half().float())


def test_faces_through_the_augmenter_without_landmarks(
    folder: str, neutral_images: list[np.ndarray]
) -> None:
    augmenter = ExpressionAugmenter(folder, alignment=CropDetector(), check_landmarks=False)
    grey = neutral_images[2][:, :, 0]
    requests = [SynthesisRequest(HAPPY), SynthesisRequest(SAD, 0.5), SynthesisRequest(HAPPY)]
    outcomes = augmenter([*neutral_images[:2], grey], requests)
    assert augmenter.stats == {"made": 3}
    assert [o.target for o in outcomes] == [HAPPY, SAD, HAPPY]
    for outcome, image in zip(outcomes, [*neutral_images[:2], grey], strict=True):
        assert (outcome.image.shape, outcome.image.dtype) == (image.shape, np.uint8)
        change = np.abs(outcome.image.astype(int) - image)
        assert change.max() > 5
        assert change[0, 0].max() <= 4, "what is far from the face stays"


def test_faces_through_random_expression(folder: str, neutral_images: list[np.ndarray]) -> None:
    images = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in neutral_images[:4]])
    labels = torch.tensor([1, 1, 0, 1])
    augmenter = ExpressionAugmenter(folder, alignment=CropDetector(), check_landmarks=False)
    transform = RandomExpression(SCHEME, augmenter=augmenter, p=1.0, seed=3)
    made, new = transform(images, labels)
    assert new.tolist() == [0, 0, 1, 0]
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert ((made != images).flatten(1).any(1)).all()
