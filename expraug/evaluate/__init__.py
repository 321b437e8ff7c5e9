"""How good a synthesizer is: one set of figures, one table, one report for all of them."""

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.evaluation import evaluate
from expraug.evaluate.report import Evaluation
from expraug.networks.fer_classifier import FERClassifier, FERNet, load_fer_classifier

__all__ = [
    "Bootstrap",
    "Estimate",
    "Evaluation",
    "FERClassifier",
    "FERNet",
    "evaluate",
    "load_fer_classifier",
]
