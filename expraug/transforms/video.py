"""`RandomExpressionClip` for torchvision's v2 transforms: an image becomes a video of its face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from expraug.cache import SynthesisCache
from expraug.expressions import Expression
from expraug.faces.detect import Detector
from expraug.faces.image import MIN_SIDE, as_array
from expraug.gate import GateLike
from expraug.labels import SchemeLike
from expraug.pipeline import ExpressionAugmenter
from expraug.pipeline.samples import clips_of_samples
from expraug.policy import Policy
from expraug.synthesizer import Synthesizer
from expraug.transforms import AUGMENTER_DEFAULTS
from expraug.transforms.structure import LabelsGetter
from expraug.transforms.torchvision import RandomExpression, check_batch, rows_of, stacked


class RandomExpressionClip(RandomExpression):
    """Turn faces into videos, from the source to another expression, and their labels with them.

    Takes samples and batches as `RandomExpression` does, and samples requests as it does. The
    video rises to the full expression. Where nothing is asked for, no face is found or the gate
    rejects, it is the image T times, and the label stays.

    Clips are not cached: each is made when it is asked for.

    Args:
        scheme, synthesizer, targets, policy, alignment, gate, check_landmarks, per_image, device,
        p, seed, labels_getter: as `RandomExpression` takes them. The last frame is what is scored.
        frames: of each video, T, at least 2.
        cache: folder or `SynthesisCache` that keeps where the faces are.
        augmenter: a ready `ExpressionAugmenter`, instead of all from `synthesizer` to `device`
            but `frames`.

    Returns:
        When called, the sample with a `tv_tensors.Video` in the image's place: (T, C, H, W), or
        (B, T, C, H, W) of a batch; uint8 of PIL images (grey or RGB, upright), else of the image's
        own dtype and channels.

    Raises:
        LabelError, UnsupportedExpressionError, CacheMissError, ValueError: as `RandomExpression`
            does; ValueError also for fewer than two frames.

    Examples:
        >>> from PIL import Image
        >>> from expraug.transforms.video import RandomExpressionClip
        >>> to_video = RandomExpressionClip(["happy", "neutral"], frames=8, p=1.0)
        >>> video, label = to_video(Image.open("examples/faces/neutral/london_008.jpg"), 1)
        >>> video.shape, label
        (torch.Size([8, 3, 256, 256]), 0)
    """

    def __init__(
        self,
        scheme: SchemeLike | None = None,
        synthesizer: str | Synthesizer = "auto",
        *,
        frames: int = 16,
        targets: Sequence[Expression | str] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        alignment: str | Detector = "crop",
        gate: GateLike = None,
        check_landmarks: bool = True,
        cache: SynthesisCache | str | Path | None = None,
        per_image: int = 4,
        device: str | torch.device = "cpu",
        p: float = 0.5,
        seed: int | None = None,
        labels_getter: LabelsGetter | Literal["default"] = "default",
        augmenter: ExpressionAugmenter | None = None,
    ) -> None:
        if frames < 2:
            raise ValueError(f"a clip has at least 2 frames, not {frames}")
        super().__init__(
            scheme,
            synthesizer,
            targets=targets,
            policy=policy,
            intensity=(1.0, 1.0) if augmenter is None else AUGMENTER_DEFAULTS["intensity"],
            alignment=alignment,
            gate=gate,
            check_landmarks=check_landmarks,
            cache=cache,
            per_image=per_image,
            device=device,
            p=p,
            seed=seed,
            labels_getter=labels_getter,
            augmenter=augmenter,
        )
        self.frames = frames
        for unused in ("intensity", "on_miss"):
            self._arguments.pop(unused, None)
        self._arguments["frames"] = frames

    def _changed_samples(
        self, images: Sequence[Any], labels: Sequence[Any]
    ) -> list[tuple[Any, Any]]:
        """Return (video, label) of each sample."""
        scheme = self._scheme_of(labels[0])
        stills = [_still(image) for image in images]
        request, wanted = self._sampling(len(images), scheme)
        clips = clips_of_samples(
            self.augmenter, scheme, stills, labels, request, frames=self.frames, wanted=wanted
        )
        return [
            (_video([still] * self.frames if clip.frames is None else clip.frames), clip.label)
            for still, clip in zip(stills, clips, strict=True)
        ]

    def _changed_batch(self, images: Any, labels: Any) -> tuple[Any, Any]:
        check_batch(images, labels)
        device = images.device if isinstance(images, Tensor) else "cpu"
        if len(images) == 0:
            plain = images if isinstance(images, Tensor) else torch.tensor(images).movedim(-1, 1)
            return tv_tensors.Video(torch.stack([plain] * self.frames, 1)), labels
        made = self._changed_samples(rows_of(images), rows_of(labels))
        videos = torch.stack([video for video, _ in made]).to(device)
        return tv_tensors.Video(videos), stacked([label for _, label in made], labels)


def _still(image: Any) -> Any:
    """Return an image as the frames of its video are: a tensor, or an upright array."""
    if not isinstance(image, Image.Image):
        return image
    if min(image.size) < MIN_SIDE:  # no face in it, which is counted later
        return np.asarray(image.convert("RGB"))
    return as_array(image)


def _video(frames: Sequence[Tensor | np.ndarray]) -> Tensor:
    """Return (T, C, H, W) of (C, H, W) tensors, or of (H, W) or (H, W, C) arrays."""
    video: Tensor = tv_tensors.Video(torch.stack([_plain(frame) for frame in frames]))
    return video


def _plain(frame: Tensor | np.ndarray) -> Tensor:
    if isinstance(frame, Tensor):
        tensor = frame.as_subclass(Tensor)
        return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)
    tensor = torch.from_numpy(np.require(frame, requirements=["C", "W"]))
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.permute(2, 0, 1)
