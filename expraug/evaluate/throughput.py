"""Throughput: photographs per second through the whole pipeline, without a cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from expraug.evaluate.context import Context
from expraug.evaluate.face_set import TooFewFacesError
from expraug.evaluate.result import Line, Result
from expraug.pipeline import SynthesisRequest

NAME = "throughput"
SECONDS = 2.0
"""That the second figure is measured for, about."""


@dataclass
class Throughput(Result):
    """What the pipeline costs, decoding left out.

    Args:
        images_per_second: of images that it sees for the first time: detection, landmarks,
            synthesis, compositing.
        known_images_per_second: of images it has seen before, for another request: what detector
            and synthesizer keep of a face is there.
        width, height: medians over the images, in pixels.
        batch_size: images per batch.
        device, threads: where it ran.
        parameters: numbers in the synthesizer's weights, buffers included.
        bytes: of them in memory.
    """

    images_per_second: float
    known_images_per_second: float
    width: int
    height: int
    batch_size: int
    device: str
    threads: int
    parameters: int
    bytes: int

    def lines(self) -> list[Line]:
        where = (
            f"known faces {self.known_images_per_second:,.1f}; {self.width} x {self.height} px, "
            f"{self.device}, {self.threads} thread(s), {self.batch_size} per batch"
        )
        return [
            Line(NAME, "", f"{self.images_per_second:,.1f} images/s", where),
            Line("size", "", f"{self.parameters:,} parameters", f"{self.bytes:,} bytes"),
        ]


def measure(context: Context) -> Throughput:
    """Time one batch of images, then the same images again.

    Raises:
        TooFewFacesError: nothing to make anything of.
    """
    if not context.targets:
        raise TooFewFacesError("no target has a source")
    augmenter, target = context.augmenter, context.targets[-1]
    count = augmenter.batch_size
    indices = context.sources(target).indices[:count].tolist()
    # mirrored, as the images themselves were seen in the evaluation
    images = [np.ascontiguousarray(context.data.items[i].read()[:, ::-1]) for i in indices]
    warm = np.ascontiguousarray(images[0][::-1])  # what comes first also loads and compiles
    augmenter([warm], [SynthesisRequest(target)])

    def rate(repeats: int, intensity: float) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            augmenter(images, [SynthesisRequest(target, intensity)] * len(images))
        return repeats * len(images) / (time.perf_counter() - start)

    first = rate(1, 1.0)
    known = rate(max(1, min(50, round(SECONDS * first / len(images)))), 0.9)
    tensors = list(augmenter.synthesizer.state_dict().values())
    return Throughput(
        images_per_second=first,
        known_images_per_second=known,
        width=int(np.median([image.shape[1] for image in images])),
        height=int(np.median([image.shape[0] for image in images])),
        batch_size=len(images),
        device=str(augmenter.device),
        threads=torch.get_num_threads(),
        parameters=sum(t.numel() for t in tensors),
        bytes=sum(t.numel() * t.element_size() for t in tensors),
    )
