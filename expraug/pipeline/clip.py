"""One image in, a clip of its face out."""

from __future__ import annotations

import numpy as np
from torch.utils.data import get_worker_info

from expraug.errors import CacheMissError, failure
from expraug.expressions import Expression
from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.guess import warn_of_source
from expraug.pipeline.requests import SynthesisRequest
from expraug.pipeline.synthetic import beside, with_patch


def clip(
    augmenter: ExpressionAugmenter,
    image: np.ndarray,
    source: Expression | str | None,
    target: Expression | str,
    frames: int = 16,
    *,
    variant: int = 0,
) -> np.ndarray:
    """Turn one image into a clip of its face, from the source to the full expression.

    Clips are not kept in the cache, which only tells where the face is. The gate scores the last
    frame.

    Args:
        augmenter: makes it.
        image: (H, W) grey or (H, W, 3) RGB uint8.
        source: what the face shows; None if that is not known.
        target: what the last frame shows.
        frames: their number T, at least 2.
        variant: of the synthesizer's `variants`, counted from 0.

    Returns:
        (T, C, H, W) uint8, C = 1 for a grey image and 3 otherwise. The first frame is the image,
        and every frame is the image where the face's soft mask is 0.

    Raises:
        NoFaceError: no face in the image.
        UnsupportedExpressionError: the synthesizer does not make the target, or not of a face that
            shows the source.
        RejectedError: the last frame may not be used; `reason` says why.
        CacheMissError: a CUDA synthesizer in a DataLoader worker.
        ValueError: fewer than two frames, or no such variant.
    """
    wanted = Expression.parse(target)
    shown = None if source is None else Expression.parse(source)
    if frames < 2:
        raise ValueError(f"a clip has at least 2 frames, not {frames}")
    augmenter.require([wanted], shown, variant)
    if get_worker_info() is not None and augmenter.device.type == "cuda":
        raise CacheMissError(
            "clips are not cached, and CUDA cannot run in a DataLoader worker: make them in the "
            "training process (num_workers=0), or on the CPU (device='cpu')"
        )
    if shown is None:
        warn_of_source(augmenter, image, wanted)
    request = SynthesisRequest(wanted, variant=variant)
    (found,) = augmenter.synthesize([image], [request], None, frames)
    entries = beside([image] * len(found), found)
    last = augmenter.outcome(image, request, entries[-1], cached=False)
    augmenter.stats[last.reason or "made"] += 1
    if last.reason:
        raise failure(last.reason, last.scores, f"the clip of {wanted}", image.shape)
    made = np.stack([with_patch(image, entry) for entry in entries if entry is not None])
    return made[:, None] if made.ndim == 3 else made.transpose(0, 3, 1, 2)
