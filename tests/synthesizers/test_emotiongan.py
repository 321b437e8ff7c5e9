"""`emotiongan`: faces move along directions of latents, by the intensity, as a synthesizer must."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.errors import UnsupportedExpressionError
from expraug.faces.composite import hide_background, luminance
from expraug.latent.directions import log_odds
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer

sys.path.insert(0, str(Path(__file__).parents[1] / "latent"))

HAPPY, SAD, ANGRY = Expression.HAPPY, Expression.SAD, Expression.ANGRY
NAMES = ["sad", "neutral", "happy"]  # not in the order of `Expression`
OURS: dict[str, Any] = {
    "generator": {"image_size": 32, "channels": [16, 16, 8, 8], "width": 12},
    "encoder": {"channels": [8, 8, 8]},
}


def fitted(size: float = 0.3, **config: Any) -> EmotionGANSynthesizer:
    """A synthesizer of random weights, with directions that visibly change a face."""
    torch.manual_seed(0)
    model = EmotionGANSynthesizer(NAMES, **(OURS | config))
    count, shape = len(NAMES), model.mean.shape
    model.logits.copy_(0.05 * torch.randn(count, *shape))
    model.constants.copy_(torch.randn(count) * 0.1)
    flat = model.logits.flatten(1)
    # logits rise by one against the mean of the others
    middle = flat - (flat.sum(0) - flat) / (count - 1)
    model.directions.copy_(torch.linalg.pinv(middle).T.view_as(model.directions))
    model.steps.copy_(size * torch.tensor([1.0, 1.5, 2.0]))
    model.levels.fill_(3.0)
    return model.eval().requires_grad_(False)


@pytest.fixture
def model() -> EmotionGANSynthesizer:
    return fitted()


def request(count: int = 3) -> tuple[Tensor, Tensor]:
    """Coloured faces far from black and white, and a target for each."""
    generator = torch.Generator().manual_seed(1)
    faces = torch.rand(count, 3, 32, 32, generator=generator) * 0.2 + 0.4
    return faces, torch.tensor([int(Expression.parse(NAMES[i % 3])) for i in range(count)])


def test_any_expression_from_any_face_but_its_own() -> None:
    fresh = create_synthesizer("emotiongan", pretrained=False, expressions=NAMES, **OURS)
    assert isinstance(fresh, EmotionGANSynthesizer)
    assert fresh.expressions == (SAD, Expression.NEUTRAL, HAPPY)
    assert fresh.image_size == 32
    assert fresh.needs_landmarks
    assert fresh.supports(None, HAPPY)
    assert not fresh.supports(HAPPY, HAPPY)
    assert not fresh.supports(HAPPY, ANGRY)


def test_what_cannot_be_asked_for(model: EmotionGANSynthesizer) -> None:
    faces, target = request()
    target[1] = int(ANGRY)
    with pytest.raises(UnsupportedExpressionError, match="cannot make angry; it can make sad"):
        model(faces, target, torch.ones(3))
    with pytest.raises(ValueError, match="must be 'by' or 'to', not 'at'"):
        fitted(manipulation="at")


def test_no_intensity_is_the_source_to_the_bit(model: EmotionGANSynthesizer) -> None:
    faces, target = torch.rand(3, 3, 32, 32), request()[1]
    assert torch.equal(model(faces, target, torch.zeros(3)), faces)
    assert not torch.equal(model(faces, target, torch.ones(3)), faces)


@pytest.mark.parametrize("manipulation", ["by", "to"])
def test_the_change_is_that_of_the_drawn_face(manipulation: str) -> None:
    model = fitted(manipulation=manipulation)
    faces, target = request()
    amount = torch.tensor([0.25, 0.5, 1.0])
    latents = model.invert(luminance(faces))
    moved = latents + model.move(latents, target, amount)
    change = model.draw(moved) - model.draw(latents)
    assert change.abs().max() > 0.02
    torch.testing.assert_close(model(faces, target, amount), (faces + change).clamp(0, 1))
    plain = fitted(manipulation=manipulation, plain=True)
    drawn = luminance(plain(faces, target, amount)) - luminance(faces)
    expected = model.draw(moved) - hide_background(luminance(faces))
    inside = ((faces + expected > 0) & (faces + expected < 1)).all(1, keepdim=True)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(drawn[inside], expected[inside])


def test_codes_move_along_a_line_by_the_intensity(model: EmotionGANSynthesizer) -> None:
    faces, target = request()
    latents = model.invert(luminance(faces))
    full = model.move(latents, target, torch.ones(3))
    torch.testing.assert_close(model.move(latents, target, torch.full((3,), 0.3)), 0.3 * full)
    row = model.row[target]
    for i in range(3):
        assert torch.equal(full[i], model.steps[row[i]] * model.directions[row[i]])
    # the face itself is drawn anew: no blend of two pictures
    half = model(faces, target, torch.full((3,), 0.5))
    blend = (faces + model(faces, target, torch.ones(3))) / 2
    assert (half - blend).abs().max() > 1e-3


def test_to_moves_as_far_as_the_linear_model_needs() -> None:
    model = fitted(manipulation="to")
    faces, target = request()
    latents = model.invert(luminance(faces))
    row = model.row[target][:, None]
    now = model.odds(latents).gather(1, row)[:, 0]
    model.levels.copy_(torch.tensor([2.0, -9.0, 3.0]))
    lengths = model.move(latents, target, torch.ones(3)).flatten(1).norm(dim=1)
    unit = model.directions[row[:, 0]].flatten(1).norm(dim=1)
    wanted = model.levels[row[:, 0]] - now
    assert wanted[1] < 0
    torch.testing.assert_close(lengths / unit, wanted.clamp(min=0))
    made = model(faces, target, torch.ones(3))
    assert torch.equal(made[1], faces[1]), "it shows it already"


def test_log_odds_are_those_of_a_softmax_or_each_its_own() -> None:
    joint, own = fitted(), fitted(binomial=True)
    latents = joint.invert(luminance(request()[0]))
    logits = torch.einsum("blw,elw->be", latents, joint.logits) + joint.constants
    torch.testing.assert_close(own.odds(latents), logits)
    torch.testing.assert_close(joint.odds(latents), log_odds(logits))
    assert not torch.allclose(own.odds(latents), joint.odds(latents))


def test_channels_change_alike_and_grey_stays_grey(model: EmotionGANSynthesizer) -> None:
    faces, target = request()
    change = model(faces, target, torch.full((3,), 0.3)) - faces
    torch.testing.assert_close(change, change[:, :1].expand_as(change))
    grey = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    made = model(grey, target, torch.ones(3))
    assert torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made[:, 0], made[:, 2])


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("manipulation", ["by", "to"])
def test_a_face_is_made_as_if_it_were_alone(steps: int, manipulation: str) -> None:
    model = fitted(manipulation=manipulation, refining={"steps": steps})
    faces, target = request(5)
    amount = torch.linspace(0.2, 1, 5)
    with torch.inference_mode():
        together = model(faces, target, amount)
        for i in range(5):
            alone = model(faces[i : i + 1], target[i : i + 1], amount[i : i + 1])
            assert torch.equal(alone[0], together[i])
    assert torch.equal(model(faces, target, amount), together)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_shape_dtype_and_range(model: EmotionGANSynthesizer, kind: str) -> None:
    dtype = getattr(torch, kind)
    faces = torch.rand(2, 3, 32, 32, dtype=dtype)
    model.steps.mul_(20)
    made = model(faces, torch.tensor([int(SAD), int(HAPPY)]), torch.tensor([0.5, 1.0]))
    assert (made.shape, made.dtype) == (faces.shape, dtype)
    assert made.min() >= 0
    assert made.max() <= 1
    assert ((made == 0) | (made == 1)).any(), "something was clamped"


def test_inversion_without_an_encoder_starts_at_the_mean_and_improves() -> None:
    faces = luminance(request()[0])
    gaps = []
    for steps in (0, 60):
        model = fitted(background=True, encoder=None, refining={"steps": steps, "start": 0.0})
        latents = model.invert(faces)
        assert torch.equal(latents, model.mean.expand_as(latents)) == (steps == 0)
        gaps.append((model.draw(latents) - faces).abs().mean())
    assert gaps[1] < 0.7 * gaps[0]


@pytest.mark.parametrize("config", [{}, {"manipulation": "to"}])
def test_saved_and_loaded_it_makes_the_same_faces(tmp_path: Path, config: dict[str, Any]) -> None:
    model = fitted(**config)
    model.save_pretrained(tmp_path)
    again = create_synthesizer(str(tmp_path))
    assert isinstance(again, EmotionGANSynthesizer)
    assert again.config == model.config
    for name in model.float32:
        assert torch.equal(again.get_buffer(name), model.get_buffer(name)), name
    faces, target = request()
    made, expected = (m(faces, target, torch.full((3,), 0.5)) for m in (again, model))
    assert not torch.equal(expected, faces)
    torch.testing.assert_close(made, expected, atol=5e-3, rtol=0)  # weights are kept as fp16


@pytest.mark.parametrize("name", ["blobs", "stylegan"])
def test_anybodys_generator_takes_the_place_of_ours(tmp_path: Path, name: str) -> None:
    torch.manual_seed(5)
    config: dict[str, Any] = {"generator": f"user_generators:{name}", "encoder": None}
    model = fitted(**config, refining={"steps": 5})
    assert model.image_size == 24
    model.save_pretrained(tmp_path)
    torch.manual_seed(6)  # the function draws other weights now; those that were saved count
    again = create_synthesizer(str(tmp_path))
    faces, target = torch.rand(3, 3, 24, 24), request()[1]
    made, expected = (m(faces, target, torch.ones(3)) for m in (again, model))
    assert (expected - faces).abs().max() > 0.01
    torch.testing.assert_close(made, expected, atol=1e-2, rtol=0)
    assert torch.equal(model(faces, target, torch.zeros(3)), faces)


def test_a_generator_without_weights_is_none_of_the_state() -> None:
    class Still:
        layers, width, image_size = 2, 3, 8

        def mapping(self, z: Tensor) -> Tensor:
            return z[:, None].expand(-1, 2, -1)

        def synthesis(self, latents: Tensor) -> Tensor:
            return latents.mean((1, 2)).sigmoid().view(-1, 1, 1, 1).expand(-1, 1, 8, 8)

    module = type(sys)("still_faces")
    module.create = Still  # type: ignore[attr-defined]
    sys.modules["still_faces"] = module
    model = EmotionGANSynthesizer(["happy"], "still_faces:create")
    assert not any(key.startswith("generator") for key in model.state_dict())
    model.directions.fill_(1.0)
    model.steps.fill_(1.0)
    made = model(torch.full((1, 3, 8, 8), 0.2), torch.tensor([int(HAPPY)]), torch.ones(1))
    expected = 0.2 + torch.tensor(1.0).sigmoid() - 0.5
    torch.testing.assert_close(made, expected.expand(1, 3, 8, 8))


def test_what_the_mask_hides_is_hidden_from_the_inversion_unless_there_is_a_background() -> None:
    grey = luminance(request()[0])
    other = grey.clone()
    other[..., :2, :] = 1.0
    hiding, seeing = fitted(), fitted(background=True)
    assert torch.equal(hiding.invert(grey), hiding.invert(other))
    assert not torch.equal(seeing.invert(grey), seeing.invert(other))


def test_gradients_reach_codes_through_draw(model: EmotionGANSynthesizer) -> None:
    latents = model.invert(luminance(request()[0])).requires_grad_()
    model.draw(latents).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.flatten(1).any(1).all()
    assert isinstance(model.encoder, nn.Module)


def test_faces_through_the_augmenter(tmp_path: Path, neutral_images: list[np.ndarray]) -> None:
    fitted(size=3.0).save_pretrained(tmp_path)
    augmenter = ExpressionAugmenter(str(tmp_path), check_landmarks=False)
    outcomes = augmenter(
        [*neutral_images[:2]], [SynthesisRequest(HAPPY), SynthesisRequest(SAD, 0.5)]
    )
    assert augmenter.stats == {"made": 2}
    for outcome, image in zip(outcomes, neutral_images, strict=False):
        assert np.abs(outcome.image.astype(int) - image).max() > 5
        assert np.array_equal(outcome.image[:4], image[:4]), "the background must stay"
