"""What latents do to photographs: they move sharp, mouths are painted, and nothing else happens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transfer_faces import CORNERS, Known, read

from expraug import Expression, create_synthesizer
from expraug.faces.landmarks import read_aligned
from expraug.faces.mouth import lip_gaps, lips_of
from expraug.faces.synthesized import FLOW_FRAME, SynthesizedFaces
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps
from expraug.synthesizers.latent_maps import flow_between, see

HAPPY, SURPRISE = int(Expression.HAPPY), int(Expression.SURPRISE)


@pytest.fixture(scope="module", params=["emotiongan", "decoupled"])
def model(request: pytest.FixtureRequest) -> Synthesizer:
    return create_synthesizer(request.param)


@pytest.fixture(scope="module")
def aligned(neutral_images: list[np.ndarray]) -> tuple[Tensor, Known]:
    return read(neutral_images[:3])


@torch.inference_mode()
def test_intensity_is_how_far_the_mouth_goes(
    model: Synthesizer, aligned: tuple[Tensor, Known]
) -> None:
    faces, known = aligned
    smile = torch.full((3,), HAPPY)
    assert torch.equal(model(faces, smile, torch.zeros(3), **known), faces)
    wide = []
    for intensity in (0.5, 1.0):
        made = model(faces, smile, torch.full((3,), intensity), **known)
        points = read_aligned(made)[0]
        wide.append((points[:, CORNERS[1]] - points[:, CORNERS[0]]).norm(dim=1))
    corners = known["landmarks"]
    before = (corners[:, CORNERS[1]] - corners[:, CORNERS[0]]).norm(dim=1)
    assert (wide[1] > wide[0] + 0.005).all()
    assert (wide[0] > before).all()


@torch.inference_mode()
def test_a_mouth_that_opens_is_painted(model: Synthesizer, aligned: tuple[Tensor, Known]) -> None:
    faces, known = aligned
    made = model.synthesize(faces, torch.full((3,), SURPRISE), torch.ones(3), **known)
    assert made.matte is not None
    assert made.flow is not None
    assert (made.matte.flatten(1).amax(1) > 0.9).all()
    assert (made.matte.flatten(1).mean(1) < 0.1).all(), "nothing but the mouth"
    before, after = (lip_gaps(lips_of(p)).mean(1) for p in (
        known["landmarks"], read_aligned(made.render(faces))[0]
    ))  # fmt: skip
    assert (after > before + 0.1).all()
    # the border of its frame stays
    assert made.flow[..., 0, :].abs().max() < 0.01
    assert made.flow[..., -1].abs().max() < 0.01


@torch.inference_mode()
def test_colour_and_sharpness_stay_at_any_side(
    model: Synthesizer, aligned: tuple[Tensor, Known]
) -> None:
    faces, known = aligned
    large = torch.nn.functional.interpolate(faces, (256, 256), mode="bicubic").clamp(0, 1)
    target = torch.full((3,), HAPPY)
    small, wide = (model.synthesize(f, target, torch.ones(3), **known) for f in (faces, large))
    assert small.flow is not None
    assert wide.flow is not None
    torch.testing.assert_close(small.flow, wide.flow, atol=0.01, rtol=0)
    made = wide.render(large)
    detail = [(f.diff(dim=2).abs().mean((1, 2, 3))) for f in (large, made)]
    assert (detail[1] > 0.8 * detail[0]).all()
    skin = [f[:, :, 150:170, 60:90].mean((2, 3)) for f in (large, made)]
    shares = [s / s.sum(1, keepdim=True) for s in skin]
    torch.testing.assert_close(shares[0], shares[1], atol=0.03, rtol=0)


@torch.inference_mode()
def test_a_face_is_made_as_if_it_were_alone(
    model: Synthesizer, aligned: tuple[Tensor, Known]
) -> None:
    faces, known = aligned
    target, amount = torch.tensor([HAPPY, SURPRISE, HAPPY]), torch.tensor([1.0, 0.7, 0.4])
    together = model(faces, target, amount, **known)
    for i in range(3):
        own = {name: values[i : i + 1] for name, values in known.items()}
        alone = model(faces[i : i + 1], target[i : i + 1], amount[i : i + 1], **own)
        assert torch.equal(alone[0], together[i])


@torch.inference_mode()
def test_without_landmarks_it_finds_them_or_leaves_the_face(
    model: Synthesizer, aligned: tuple[Tensor, Known]
) -> None:
    faces = torch.cat([aligned[0][:1], torch.full((1, 3, 128, 128), 0.5)])
    made = model(faces, torch.full((2,), SURPRISE), torch.ones(2))
    assert torch.equal(made[1], faces[1])
    known = {name: values[:1] for name, values in aligned[1].items()}
    wanted = model(faces[:1], torch.full((1,), SURPRISE), torch.ones(1), **known)
    assert (made[:1] - wanted).abs().mean() < 0.2 * (faces[:1] - wanted).abs().mean()
    assert not len(model(faces[:0], torch.zeros(0, dtype=torch.long), torch.ones(0)))


def test_flows_take_landmarks_where_they_go(aligned: tuple[Tensor, Known]) -> None:
    model = create_synthesizer("emotiongan")
    assert isinstance(model, EmotionGANSynthesizer)
    pictures = model.generator.pictures  # type: ignore[attr-defined]
    points = aligned[1]["landmarks"][:1]
    moved = points.clone()
    chin = points[0, 152]
    moved[0, :, 1] += 0.06 * torch.exp(-(points[0] - chin).square().sum(1) / 0.02)
    flow = flow_between(pictures, points, moved)
    low, high = FLOW_FRAME
    place = 2 * (moved - low) / (high - low) - 1
    there = torch.nn.functional.grid_sample(flow, place[:, :, None], align_corners=False)
    off = moved + there[..., 0].mT - points
    assert off.abs().mean() < 0.002
    assert not flow_between(pictures, points, points).any()
    seen = see(model.generator, aligned[0][:1], points)
    assert seen.shapes.shape == (1, model.generator.width)


@torch.inference_mode()
def test_lips_do_not_cross_however_far_they_go(
    model: Synthesizer, aligned: tuple[Tensor, Known], monkeypatch: pytest.MonkeyPatch
) -> None:
    faces, known = aligned
    seen = []
    applied = ExpressionMaps.applied

    def keep(maps: ExpressionMaps, *arguments: Tensor) -> SynthesizedFaces:
        seen.append(maps)
        return applied(maps, *arguments)

    monkeypatch.setattr(ExpressionMaps, "applied", keep)
    monkeypatch.setattr(model, "strength", 3 * model.strength)
    for target in (Expression.CONTEMPT, Expression.NEUTRAL):
        model.synthesize(faces, torch.full((3,), int(target)), torch.ones(3), **known)
    for maps in seen:
        before, after = ((m[:, 1] - m[:, 0])[:, 1:-1, 1] for m in (maps.lips, maps.moved_lips))
        assert (after >= before.clamp(max=0) - 1e-6).all()
