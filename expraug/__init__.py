"""expraug: facial-expression augmentation.

A face and its label go in; the same person with another expression, and the matching label, come
out, at training speed.
"""

from expraug.expressions import Expression, LabelScheme
from expraug.gate import IdentityGate
from expraug.pipeline import ExpressionAugmenter, Outcome, SynthesisRequest
from expraug.policy import Balance, Matrix, Uniform
from expraug.synthesizer import (
    Synthesizer,
    create_synthesizer,
    list_synthesizers,
    register_synthesizer,
)

__version__ = "0.1.0"

__all__ = [
    "Balance",
    "Expression",
    "ExpressionAugmenter",
    "IdentityGate",
    "LabelScheme",
    "Matrix",
    "Outcome",
    "SynthesisRequest",
    "Synthesizer",
    "Uniform",
    "create_synthesizer",
    "list_synthesizers",
    "register_synthesizer",
]
