"""How latents of pairs differ, on real faces that maps move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.faces import LandmarkDetector, align_image
from expraug.faces.composite import luminance
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.mouth import LIPS, lips_of
from expraug.faces.synthesized import FLOW_FRAME
from expraug.latent.generator import StyleGenerator
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from expraug.synthesizers.expression_maps import ExpressionMaps
from recipes.pairs.made import FLOW_SIDE, LIGHTENING_SIDE, Pairs
from recipes.pairs.moves import (
    displaced,
    mean_interiors,
    moves_of_pairs,
    of_expressions,
    one_sided,
    part_of,
)

NEUTRAL, HAPPY, CONTEMPT = map(int, (Expression.NEUTRAL, Expression.HAPPY, Expression.CONTEMPT))


@pytest.fixture(scope="module")
def generator() -> StyleGenerator:
    model = create_synthesizer("emotiongan")
    assert isinstance(model, EmotionGANSynthesizer)
    assert isinstance(model.generator, StyleGenerator)
    return model.generator


@pytest.fixture(scope="module")
def pairs(neutral_images: list[np.ndarray]) -> Pairs:
    """Three people; nothing happens to the first, corners of the mouth rise in the others."""
    images = neutral_images[:3]
    found = LandmarkDetector()(images)
    located = [(i, f) for i, f in zip(images, found, strict=True) if f is not None]
    grey = [luminance(align_image(i, f.points, 128)[None]) for i, f in located]
    mesh = stack_landmarks([frame(i, f, 128) for i, f in located])["landmarks"][..., :2]
    lips = lips_of(torch.from_numpy(mesh)).numpy()
    flow = np.zeros((4, 2, FLOW_SIDE, FLOW_SIDE), np.float32)
    low, high = FLOW_FRAME
    axis = low + (high - low) * (np.arange(FLOW_SIDE) + 0.5) / FLOW_SIDE
    of, moved = np.array([0, 1, 2, 2]), lips[[0, 1, 2, 2]].copy()
    for pair, corners in ((1, (0, -1)), (2, (0,)), (3, (-1,))):
        for corner in corners:
            x, y = lips[of[pair], 0, corner]
            near = np.exp(-((axis[None] - x) ** 2 + (axis[:, None] - y) ** 2) / 0.005)
            flow[pair, 1] += 0.04 * near
            apart = ((moved[pair] - (x, y)) ** 2).sum(-1)
            moved[pair, ..., 1] -= 0.04 * np.exp(-apart / 0.005)
    return Pairs(
        face=torch.cat(grey).round().byte().numpy(),
        mesh=mesh,
        shown=np.array([HAPPY, NEUTRAL, NEUTRAL]),
        person=np.arange(3),
        photographed=np.full(3, -1),
        source=of,
        target=np.array([NEUTRAL, HAPPY, CONTEMPT, CONTEMPT]),
        flow=flow.astype(np.float16),
        lightening=np.zeros((4, 1, LIGHTENING_SIDE, LIGHTENING_SIDE), np.float16),
        lips=lips[of],
        moved_lips=moved,
        interior=np.zeros((4, 6, 12), np.float16),
        probability=np.ones(4, np.float32),
    )


def test_landmarks_go_where_flow_and_lips_say(pairs: Pairs) -> None:
    maps = pairs.maps(np.arange(4))
    before = torch.from_numpy(pairs.mesh[pairs.source])
    after = displaced(before, maps)
    torch.testing.assert_close(after[0], before[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(lips_of(after), maps.moved_lips)
    gone = (after - before)[1]
    others = torch.ones(478, dtype=torch.bool)
    others[[i for lip in LIPS for i in lip]] = False
    assert gone[[61, 291], 1].max() < -0.02, "outer corners, which the flow alone moves"
    assert gone[[33, 263, 10, 152]].abs().max() < 5e-3
    # a place comes from where the flow says
    low, high = FLOW_FRAME
    place = 2 * (after[1:2, others] - low) / (high - low) - 1
    there = torch.nn.functional.grid_sample(
        maps.flow[1:2], place[:, :, None], padding_mode="border", align_corners=False
    )[..., 0].mT
    torch.testing.assert_close(after[1:2, others] + there, before[1:2, others], atol=2e-3, rtol=0)


def test_moves_are_kept_and_told_apart(
    pairs: Pairs, generator: StyleGenerator, tmp_path: Path
) -> None:
    pairs.save(tmp_path / "pairs")
    moves = moves_of_pairs(generator, tmp_path / "pairs", tmp_path)
    again = moves_of_pairs(generator, tmp_path / "pairs", tmp_path)
    assert torch.equal(moves.wanted, again.wanted)
    assert len(moves) == 4
    size = moves.moves.square().mean(1).sqrt()
    assert size[0] < 0.2 * size[1], "nothing happened"
    neutral, happy, contempt = of_expressions(
        moves, (Expression.NEUTRAL, Expression.HAPPY, Expression.CONTEMPT)
    )
    assert [len(neutral), len(happy), len(contempt)] == [1, 1, 2]
    assert torch.equal(happy[0], moves.moves[1])
    pictures = generator.pictures
    assert pictures is not None
    kept = one_sided(moves, pictures)
    assert kept.tolist() == [True, True, True, False]
    some = part_of(moves, kept)
    assert len(some) == 3
    assert torch.equal(some.moves, moves.moves[kept])


def test_interiors_are_means_of_mouths_that_open() -> None:
    interior = torch.arange(4.0).view(4, 1, 1).expand(-1, 6, 12)
    target = torch.tensor([HAPPY, HAPPY, HAPPY, CONTEMPT])
    found = mean_interiors(interior, target, torch.tensor([1.0, 0.9, 0.1, 0.0]))
    assert found.shape == (8, 6, 12)
    assert (found == 0.5).all(), "of happy ones, and of all where none opens"
    closed = mean_interiors(interior, target, torch.zeros(4))
    assert (closed == 1.5).all()


def test_maps_that_do_nothing_move_nothing() -> None:
    landmarks = torch.rand(1, 478, 2)
    lips = lips_of(landmarks)
    maps = ExpressionMaps(
        torch.zeros(1, 2, 24, 24), torch.zeros(1, 1, 8, 8), lips, lips, torch.zeros(1, 6, 12)
    )
    assert torch.equal(displaced(landmarks, maps), landmarks)
