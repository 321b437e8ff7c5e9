"""The whole road: what it leaves untouched; and how fast and how large the synthesizer is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.datasets import FaceItem
from expraug.evaluate.synthesis import Maker
from expraug.expressions import Expression
from expraug.faces import paste_back, similarity
from expraug.faces.detect import Detector
from expraug.pipeline import ExpressionAugmenter, SynthesisRequest
from expraug.synthesizer import Synthesizer


@dataclass(frozen=True)
class Untouched:
    """Pixels outside the face mask, before and after the road.

    Args:
        share: of them that are bit-identical; must be 1.
        pixels: how many were compared.
        images: that were changed.
    """

    share: float
    pixels: int
    images: int


@dataclass(frozen=True)
class Speed:
    """Cost of the synthesizer.

    Args:
        faces_per_second: of faces it has seen before, so that whatever it keeps of a face is there.
        first_faces_per_second: of faces it sees for the first time.
        image_size: side of the faces, in pixels.
        batch_size: faces a pass.
        device, threads: where it ran.
        parameters: numbers in its weights, buffers included.
        bytes: of them in memory.
    """

    faces_per_second: float
    first_faces_per_second: float
    image_size: int
    batch_size: int
    device: str
    threads: int
    parameters: int
    bytes: int


def measure_untouched(
    synthesizer: Synthesizer,
    detector: Detector,
    items: Sequence[tuple[FaceItem, Expression]],
    device: str | torch.device = "cpu",
) -> Untouched:
    """Send images down the road, at full intensity, and compare what lies outside the mask.

    Args:
        items: images, and the target for each.
    """
    augmenter = ExpressionAugmenter(synthesizer, intensity=(1, 1), faces=detector, device=device)
    same = pixels = images = 0
    for item, target in items:
        image = item.read()
        (location,) = detector([image])
        (outcome,) = augmenter([image], [SynthesisRequest(target)])
        if outcome.target is None or location is None:
            continue
        outside = ~reach(image.shape[:2], location.points, synthesizer.image_size)
        equal = np.atleast_3d(outcome.image == image).all(axis=2)
        same += int((equal & outside).sum())
        pixels += int(outside.sum())
        images += 1
    return Untouched(same / pixels if pixels else float("nan"), pixels, images)


def reach(shape: tuple[int, ...], points: np.ndarray, size: int) -> np.ndarray:
    """Return which pixels of an image the road may change: (H, W) bool.

    Args:
        shape: (H, W).
        points: (5, 2) of the face.
        size: side of the canonical frame, in pixels.
    """
    height, width = shape
    matrix = similarity(points[None, :5].astype(np.float64))
    black = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    # the largest change there is, from black to white: where even that rounds to 0, none arrives
    change = torch.ones(1, 3, size, size)
    return paste_back(black, change, matrix, (0, 0, height, width))[0, 0].numpy() > 0


@torch.inference_mode()
def measure_speed(maker: Maker, faces: Tensor, target: Expression, seconds: float = 2.0) -> Speed:
    """Time the synthesizer alone on (N, 3, S, S) uint8 faces."""
    synthesizer, count = maker.synthesizer, maker.batch_size
    # mirrored, as the faces themselves were seen in the evaluation
    several = faces[torch.arange(4 * count) % len(faces)].flip(3).to(maker.device).float() / 255
    wanted = torch.full((count,), int(target), device=maker.device)
    amount = torch.ones(count, device=maker.device)

    def rate(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            for batch in several.split(count):
                synthesizer(batch, wanted, amount)
        if maker.device.type == "cuda":
            torch.cuda.synchronize(maker.device)
        return repeats * len(several) / (time.perf_counter() - start)

    maker(faces[:2], target)  # the first call ever also loads and compiles
    first = rate(1)
    known = rate(max(1, min(200, round(seconds * first / len(several)))))
    tensors = list(synthesizer.state_dict().values())
    return Speed(
        faces_per_second=known,
        first_faces_per_second=first,
        image_size=synthesizer.image_size,
        batch_size=count,
        device=str(maker.device),
        threads=torch.get_num_threads(),
        parameters=sum(t.numel() for t in tensors),
        bytes=sum(t.numel() * t.element_size() for t in tensors),
    )
