"""`RandomExpressionClip` for torchvision's v2 transforms: an image becomes a video of its face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from expraug.cache import SynthesisCache
from expraug.errors import NoFaceError, RejectedError, UnreadableImageError
from expraug.expressions import Expression, LabelScheme
from expraug.faces.detect import Detector
from expraug.faces.image import as_array, as_given
from expraug.gate import Gate
from expraug.pipeline import ExpressionAugmenter
from expraug.policy import Policy
from expraug.synthesizer import Synthesizer
from expraug.transforms.torchvision import RandomExpression, _check_batch


class RandomExpressionClip(RandomExpression):
    """Turn faces into videos, from the source to another expression, and their labels with them.

    Takes samples and batches as `RandomExpression` does, and draws as it does. The video rises to
    the full expression. Where nothing is drawn, no face is found or the gate rejects, it is the
    image T times, and the label stays.

    Clips are not cached: each is made when it is asked for.

    Args:
        scheme, synthesizer, p, targets, policy, faces, gate, device, labels_getter, seed: as
            `RandomExpression` takes them. The gate judges the last frame.
        frames: of each video, T, at least 2.
        cache: folder or `SynthesisCache` that keeps where the faces are.
        augmenter: a ready `ExpressionAugmenter`, instead of all from `synthesizer` to `device`
            but `p` and `frames`.

    Returns:
        When called, the sample with a `tv_tensors.Video` in the image's place: (T, C, H, W), or
        (B, T, C, H, W) of a batch; uint8 of PIL images (grey or RGB, upright), else of the image's
        own dtype and channels.

    Raises:
        LabelError, UnsupportedExpressionError, CacheMissError, ValueError: as `RandomExpression`
            does; ValueError also for fewer than two frames.

    Example:
        >>> from PIL import Image
        >>> from expraug.transforms.video import RandomExpressionClip
        >>> to_video = RandomExpressionClip(["happy", "neutral"], frames=8, p=1.0)
        >>> video, label = to_video(Image.open("examples/faces/neutral/london_008.jpg"), 1)
        >>> video.shape, label
        (torch.Size([8, 3, 256, 256]), 0)
    """

    def __init__(
        self,
        scheme: LabelScheme | str | Sequence[str] | Mapping[str, str | None],
        *,
        frames: int = 16,
        synthesizer: str | Synthesizer = "auto",
        p: float = 0.5,
        targets: Sequence[Expression | str] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        alignment: str | Detector = "crop",
        gate: Gate | Literal["identity"] | None = None,
        cache: SynthesisCache | str | Path | None = None,
        device: str | torch.device = "cpu",
        labels_getter: str | Callable[[Any], Any] = "default",
        seed: int | None = None,
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        if frames < 2:
            raise ValueError(f"a clip has at least 2 frames, not {frames}")
        super().__init__(
            scheme,
            synthesizer=synthesizer,
            p=p,
            targets=targets,
            policy=policy,
            intensity=(1.0, 1.0),
            alignment=alignment,
            gate=gate,
            cache=cache,
            device=device,
            labels_getter=labels_getter,
            seed=seed,
            augmenter=augmenter,
        )
        self.frames = frames

    def _single(self, image: Any, label: Any) -> tuple[Any, Any]:
        source = self.scheme.expression(label if isinstance(label, str) else int(label))
        try:
            array = as_array(image)
        except UnreadableImageError as error:  # too small for a face: nothing to be done with it
            self.augmenter.stats[error.reason] += 1
            small = image if isinstance(image, Tensor) else np.asarray(image.convert("RGB"))
            return self._video([small] * self.frames), label
        still = image if isinstance(image, Tensor) else array
        uniforms = torch.rand(1, 3).numpy() if self.seed is None else self._seeded([array])
        (draw,) = self._draws([source], uniforms)
        if draw is None:
            return self._video([still] * self.frames), label
        try:
            clip = self.augmenter.clip(
                array, source, draw.target, self.frames, variant=draw.variant
            )
        except (NoFaceError, RejectedError):  # counted by the augmenter
            return self._video([still] * self.frames), label
        made = clip.transpose(0, 2, 3, 1).reshape(self.frames, *array.shape)
        video = self._video([as_given(frame, array, still) for frame in made])
        return video, self._relabelled(label, draw.target)

    def _video(self, frames: Sequence[Tensor | np.ndarray]) -> Tensor:
        """Return (T, C, H, W) of (C, H, W) tensors, or of (H, W) or (H, W, C) arrays."""
        return tv_tensors.Video(torch.stack([_plain(frame) for frame in frames]))

    def _batch(self, images: Tensor, labels: Any) -> tuple[Tensor, Tensor]:
        _check_batch(images, labels)
        pairs = [self._single(*pair) for pair in zip(images, labels, strict=True)]
        return tv_tensors.Video(torch.stack([v for v, _ in pairs])), torch.stack(
            [label for _, label in pairs]
        )


def _plain(frame: Tensor | np.ndarray) -> Tensor:
    if isinstance(frame, Tensor):
        tensor = frame.as_subclass(Tensor)
        return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)
    tensor = torch.from_numpy(np.require(frame, requirements=["C", "W"]))
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.permute(2, 0, 1)
