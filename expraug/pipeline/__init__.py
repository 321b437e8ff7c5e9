"""The one path from photographs to synthetic photographs, and from samples to samples."""

from expraug.pipeline.augmenter import ExpressionAugmenter
from expraug.pipeline.key import Fingerprint
from expraug.pipeline.lookup import OnMiss
from expraug.pipeline.one_image import augment
from expraug.pipeline.requests import Outcome, SynthesisRequest
from expraug.pipeline.video import VideoReport, augment_video

__all__ = [
    "ExpressionAugmenter",
    "Fingerprint",
    "OnMiss",
    "Outcome",
    "SynthesisRequest",
    "VideoReport",
    "augment",
    "augment_video",
]
