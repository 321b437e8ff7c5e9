from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.errors import UnsupportedExpressionError
from expraug.faces.composite import face_mask, hide_background, luminance
from expraug.synthesizers.decoupled import DecoupledNet, DecoupledSynthesizer, resnet50
from expraug.transforms.torchvision import RandomExpression

HAPPY, SAD, ANGRY = Expression.HAPPY, Expression.SAD, Expression.ANGRY
NAMES = ["sad", "neutral", "happy"]  # not in the order of `Expression`
SCHEME = ["happy", "neutral"]


def make(size: int = 32, plain: bool = False, strength: float = 0.3) -> DecoupledSynthesizer:
    """A tiny one that tells faces and expressions apart, as if it had been trained."""
    torch.manual_seed(0)
    channels = (16, 16, 16, 8, 8)[: size.bit_length() - 2]
    made = DecoupledSynthesizer(NAMES, size, channels, 12, 4, 16, 4, plain)
    with torch.no_grad():
        made.net.categories.mul_(4)
        for last in made.net.generator.grey:
            assert isinstance(last, nn.Conv2d)
            nn.init.normal_(last.weight, std=strength * last.in_channels**-0.5)
        for layer in (made.net.mapping[0], made.net.mapping[2], made.net.mapping[4]):
            assert isinstance(layer, nn.Linear)
            layer.weight.mul_(2)
    return made.eval().requires_grad_(False)


@pytest.fixture
def model() -> DecoupledSynthesizer:
    return make()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a net that visibly changes faces, as `create_synthesizer` takes them."""
    path = tmp_path_factory.mktemp("decoupled")
    make(64, strength=1.0).save_pretrained(path)
    return str(path)


def request(count: int = 3) -> tuple[Tensor, Tensor]:
    """Coloured faces far from black and white, and a target for each."""
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(count, 3, 32, 32, generator=generator) * 0.2 + 0.4
    return faces, torch.tensor([int(Expression.parse(NAMES[i % 3])) for i in range(count)])


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    # running means stand still in evaluation mode
    net = DecoupledNet(2, 32, (8, 8, 8, 8), 4, 1, identity=6, expression=2).double().eval()
    grey = torch.rand(2, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    random = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    at = [grey, *(w for name, w in net.named_parameters() if "dense" not in name)]

    with torch.no_grad():  # biases of 0 are where a rectifier has its corner
        for weight in at[1:]:
            weight.add_(0.1 * torch.randn_like(weight))

    def drawn() -> Tensor:
        who, shown = net.encode(grey)
        asked = torch.lerp(shown, net.wanted(torch.tensor([0, 1])), 0.6)
        return (net.generator.synthesis(net.latents(who, asked)) * random).sum()

    @torch.no_grad()
    def after(direction: list[Tensor], step: float) -> float:
        for value, way in zip(at, direction, strict=True):
            value.add_(step * way)
        return float(drawn())

    gradients = torch.autograd.grad(drawn(), at)
    for _ in range(3):
        direction = [torch.randn_like(v) * (v.detach().std(correction=0) + 0.01) for v in at]
        found = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        # so small a step that hardly any rectifier is at its corner
        difference = after(direction, 1e-8) - after(direction, -2e-8)
        after(direction, 1e-8)  # back to where it was
        assert found == pytest.approx(difference / 2e-8, rel=1e-4)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_the_resnet_is_one_of_fifty_layers(size: int) -> None:
    net = resnet50(4).eval()
    assert net(torch.rand(1, 1, size, size)).shape == (1, 128, size // 32, size // 32)
    skips = 4
    layers = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert layers - skips == 50 - 1  # the last is the head


def test_the_two_codes_of_a_face(model: DecoupledSynthesizer) -> None:
    grey = luminance(request()[0])
    who, shown = model.net.encode(grey)
    assert (who.shape, shown.shape) == ((3, 16), (3, 4))
    assert torch.allclose(who.mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(who.std(1, correction=0), torch.ones(3), atol=1e-2)
    assert shown.abs().max() < 1
    background = torch.where(face_mask(32) > 0, grey, torch.rand_like(grey))
    for one, two in zip(model.net.encode(background), (who, shown), strict=True):
        assert torch.equal(one, two), "the background tells nothing"
    assert model.net.wanted(torch.arange(3)).abs().max() < 1


def test_any_expression_from_any_face_but_its_own(model: DecoupledSynthesizer) -> None:
    fresh = create_synthesizer("decoupled", pretrained=False, expressions=NAMES)
    assert isinstance(fresh, DecoupledSynthesizer)
    assert fresh.expressions == (SAD, Expression.NEUTRAL, HAPPY)
    assert fresh.image_size == 64
    assert fresh.needs_landmarks
    assert fresh.supports(None, HAPPY)
    assert fresh.supports(ANGRY, HAPPY)  # the source need not be among what it makes
    assert not fresh.supports(HAPPY, HAPPY)
    assert not fresh.supports(HAPPY, ANGRY)


def test_a_target_that_it_does_not_have(model: DecoupledSynthesizer) -> None:
    faces, target = request()
    target[1] = int(ANGRY)
    with pytest.raises(UnsupportedExpressionError, match="cannot make angry; it can make sad"):
        model(faces, target, torch.ones(3))


@pytest.mark.parametrize(
    ("size", "channels", "message"),
    [
        (16, (8, 8, 8), "image_size must be 32 or more"),
        (128, (8, 8, 8, 8, 8), "end at .64. pixels, not 128"),
        (96, (8, 8, 8, 8, 8), "end at .64. pixels, not 96"),
        (64, (8, 8, 8, 8, 12), "all multiples of 8"),
    ],
)
def test_other_sizes_are_refused(size: int, channels: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoupledSynthesizer(NAMES, size, channels)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([32, 64]),
    st.sampled_from(["float32", "float64"]),
    st.booleans(),
    st.integers(0, 3),
)
def test_shape_dtype_and_range(seed: int, size: int, kind: str, plain: bool, count: int) -> None:
    made, dtype = make(size, plain, strength=20), getattr(torch, kind)  # far out of range
    torch.manual_seed(seed)
    faces = torch.rand(count, 3, size, size, dtype=dtype)
    target = torch.tensor([int(SAD), int(HAPPY), int(SAD)])[:count]
    out = made.to(dtype)(faces, target, torch.tensor([0.3, 1.0, 0.9])[:count])
    assert (out.shape, out.dtype) == (faces.shape, dtype)
    assert ((out >= 0) & (out <= 1)).all()
    assert not count or ((out == 0) | (out == 1)).any(), "something was clamped"


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_no_intensity_is_the_source_to_the_bit(seed: int) -> None:
    model = make()
    torch.manual_seed(seed)
    faces, target = torch.rand(3, 3, 32, 32), request()[1]
    assert torch.equal(model(faces, target, torch.zeros(3)), faces)
    assert not torch.equal(model(faces, target, torch.ones(3)), faces)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(faces, target, torch.zeros(3)), faces)


def test_a_faces_bytes_do_not_depend_on_its_neighbours(model: DecoupledSynthesizer) -> None:
    faces, target = request(5)
    strength = torch.linspace(0.2, 1, 5)
    together = model(faces, target, strength)
    alone = [model(faces[i : i + 1], target[i : i + 1], strength[i : i + 1]) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.equal(model(faces[order], target[order], strength[order]), together[order])
    assert torch.equal(model(faces, target, strength), together)


def test_intensity_moves_latents_from_their_own_to_those_of_the_category() -> None:
    plain, model = make(plain=True, strength=0.15), make(strength=0.15)
    faces, target = request()
    who, shown = model.net.encode(luminance(faces))
    wanted = model.net.wanted(model.row[target])
    rest = faces - hide_background(luminance(faces))
    own, other = (model.net.latents(who, latent) for latent in (shown, wanted))
    for intensity in (0.0, 0.25, 1.0):
        drawn = rest + model.draw(own + intensity * (other - own))
        made = plain(faces, target, torch.full((3,), intensity))
        assert torch.allclose(made, drawn.clamp(0, 1), atol=1e-5)
    again = rest + model.draw(model.invert(luminance(faces)))
    assert torch.allclose(plain(faces, target, torch.zeros(3)), again.clamp(0, 1), atol=1e-5)
    # what is added to the face is what plain shows, less the face drawn again
    strength = torch.tensor([0.3, 1.0, 0.0])  # each face has its own
    drawn, made = plain(faces, target, strength), model(faces, target, strength)
    change, inside = drawn - again, (drawn % 1 > 0) & (made % 1 > 0)
    assert inside.float().mean() > 0.5
    assert change[inside].abs().max() > 0.01
    assert torch.allclose(made[inside], (faces + change)[inside], atol=1e-5)


def test_codes_of_the_generators_layers(model: DecoupledSynthesizer) -> None:
    grey = luminance(request()[0])
    latents = model.invert(grey)
    assert latents.shape == (3, model.net.generator.layers, model.net.generator.width)
    assert model.draw(latents).shape == (3, 1, 32, 32)
    assert not torch.equal(latents[:, 0], latents[:, 1]), "each layer has its own"


def test_identity_of_some_and_expression_of_others(model: DecoupledSynthesizer) -> None:
    one, other = luminance(request()[0]), torch.rand(3, 1, 32, 32)
    own, swapped = model.swap(one, one), model.swap(one, other)
    assert torch.allclose(own, model.invert(one), atol=1e-6)
    who, shown = model.net.encode(one)[0], model.net.encode(other)[1]
    assert torch.allclose(swapped, model.net.latents(who, shown), atol=1e-6)
    assert not torch.allclose(swapped, model.swap(other, one), atol=1e-4)
    changed = model.change(one.expand(-1, 3, -1, -1), own, swapped)[:, :1]
    assert torch.allclose(changed - one, model.draw(swapped) - model.draw(own), atol=1e-5)


def test_channels_change_alike_and_grey_stays_grey(model: DecoupledSynthesizer) -> None:
    faces, target = request()
    change = model(faces, target, torch.ones(3)) - faces
    assert change.abs().max() > 0.01
    assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-6)
    grey = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    made = model(grey, target, torch.ones(3))
    assert torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made[:, 0], made[:, 2])


def test_each_target_changes_the_face_in_its_own_way(model: DecoupledSynthesizer) -> None:
    faces, target = request()
    made = model(faces[:1].expand(3, -1, -1, -1), target, torch.ones(3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (made[i] - made[j]).abs().mean() > 1e-3


def test_categories_follow_the_order_of_the_expressions(model: DecoupledSynthesizer) -> None:
    """The same net behind another order answers to other targets."""
    other = DecoupledSynthesizer(
        ["happy", "neutral", "sad"], **{k: v for k, v in model.config.items() if k != "expressions"}
    ).eval()
    other.load_state_dict(model.state_dict())
    faces, _ = request()
    happy, sad = (torch.full((3,), int(e)) for e in (HAPPY, SAD))
    ones = torch.ones(3)
    assert torch.equal(model(faces, happy, ones), other(faces, sad, ones))
    assert not torch.equal(model(faces, happy, ones), other(faces, happy, ones))


@pytest.mark.parametrize("plain", [False, True])
def test_saved_and_loaded_it_makes_the_same_faces(plain: bool, tmp_path: Path) -> None:
    model = make(plain=plain)
    model.save_pretrained(tmp_path)
    again = create_synthesizer(str(tmp_path))
    assert isinstance(again, DecoupledSynthesizer)
    assert (again.expressions, again.image_size) == (model.expressions, 32)
    assert again.plain == plain
    faces, target = request()
    made, expected = (m(faces, target, torch.ones(3)) for m in (again, model))
    assert not torch.equal(expected, faces)
    assert torch.allclose(made, expected, atol=5e-3)  # weights are kept as fp16
    weights = dict(model.named_parameters())
    assert all(torch.equal(w, weights[name].half().float()) for name, w in again.named_parameters())


def test_faces_through_the_augmenter_without_landmarks(
    folder: str, neutral_images: list[np.ndarray]
) -> None:
    augmenter = ExpressionAugmenter(folder, check_landmarks=False)
    grey = neutral_images[2][:, :, 0]
    requests = [SynthesisRequest(HAPPY), SynthesisRequest(SAD, 0.5), SynthesisRequest(HAPPY)]
    outcomes = augmenter([*neutral_images[:2], grey], requests)
    assert augmenter.stats == {"made": 3}
    assert [o.target for o in outcomes] == [HAPPY, SAD, HAPPY]
    for outcome, image in zip(outcomes, [*neutral_images[:2], grey], strict=True):
        assert (outcome.image.shape, outcome.image.dtype) == (image.shape, np.uint8)
        assert np.abs(outcome.image.astype(int) - image).max() > 5
        assert np.array_equal(outcome.image[:4], image[:4]), "the background must stay"


def test_faces_through_random_expression(folder: str, neutral_images: list[np.ndarray]) -> None:
    images = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in neutral_images[:4]])
    labels = torch.tensor([1, 1, 0, 1])
    augmenter = ExpressionAugmenter(folder, check_landmarks=False)
    transform = RandomExpression(SCHEME, augmenter=augmenter, p=1.0, seed=3)
    made, new = transform(images, labels)
    assert new.tolist() == [0, 0, 1, 0]
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    assert ((made != images).flatten(1).any(1)).all()


def test_the_fingerprint_tells_weights_and_settings_apart(model: DecoupledSynthesizer) -> None:
    prints = [model.fingerprint, make(plain=True).fingerprint, make(strength=0.31).fingerprint]
    counted = make()
    counts = [b for n, b in counted.named_buffers() if n.endswith("num_batches_tracked")]
    counts[0].add_(1)
    assert len({*prints, counted.fingerprint}) == 4
    assert make().fingerprint == prints[0]
