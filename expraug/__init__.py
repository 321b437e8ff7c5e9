"""expraug: facial-expression augmentation.

A face and its label go in; the same person with another expression, and the matching label, come
out, at training speed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expraug.cache import SynthesisCache
    from expraug.datasets import (
        BalancedExpressionSampler,
        ExpressionAugmentedDataset,
        ExpressionMap,
        JointTransform,
        list_datasets,
        open_dataset,
    )
    from expraug.expressions import Expression, LabelScheme
    from expraug.faces import SynthesizedFaces, detect_faces
    from expraug.gate import AllGates, ExpressionGate, IdentityGate
    from expraug.pipeline import (
        ExpressionAugmenter,
        Outcome,
        SynthesisRequest,
        augment,
        augment_video,
    )
    from expraug.policy import Balance, Matrix, Uniform
    from expraug.review import show
    from expraug.synthesizer import (
        Synthesizer,
        create_synthesizer,
        list_synthesizers,
        register_synthesizer,
    )

__version__ = "0.1.0"

_MODULES = {
    "AllGates": "expraug.gate",
    "Balance": "expraug.policy",
    "BalancedExpressionSampler": "expraug.datasets",
    "Expression": "expraug.expressions",
    "ExpressionAugmentedDataset": "expraug.datasets",
    "ExpressionAugmenter": "expraug.pipeline",
    "ExpressionGate": "expraug.gate",
    "ExpressionMap": "expraug.datasets",
    "IdentityGate": "expraug.gate",
    "JointTransform": "expraug.datasets",
    "LabelScheme": "expraug.expressions",
    "Matrix": "expraug.policy",
    "Outcome": "expraug.pipeline",
    "SynthesisCache": "expraug.cache",
    "SynthesisRequest": "expraug.pipeline",
    "SynthesizedFaces": "expraug.faces",
    "Synthesizer": "expraug.synthesizer",
    "Uniform": "expraug.policy",
    "augment": "expraug.pipeline",
    "augment_video": "expraug.pipeline",
    "create_synthesizer": "expraug.synthesizer",
    "detect_faces": "expraug.faces",
    "list_datasets": "expraug.datasets",
    "list_synthesizers": "expraug.synthesizer",
    "open_dataset": "expraug.datasets",
    "register_synthesizer": "expraug.synthesizer",
    "show": "expraug.review",
}
"""Where each name lives. It is imported when it is asked for, so that `expraug --help` answers at
once."""

__all__ = [
    "AllGates",
    "Balance",
    "BalancedExpressionSampler",
    "Expression",
    "ExpressionAugmentedDataset",
    "ExpressionAugmenter",
    "ExpressionGate",
    "ExpressionMap",
    "IdentityGate",
    "JointTransform",
    "LabelScheme",
    "Matrix",
    "Outcome",
    "SynthesisCache",
    "SynthesisRequest",
    "SynthesizedFaces",
    "Synthesizer",
    "Uniform",
    "augment",
    "augment_video",
    "create_synthesizer",
    "detect_faces",
    "list_datasets",
    "list_synthesizers",
    "open_dataset",
    "register_synthesizer",
    "show",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'expraug' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
