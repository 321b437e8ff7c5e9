"""How good a synthesizer is: a list of measures, over one context, on what users get."""

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.context import Context
from expraug.evaluate.evaluation import build_context, evaluate, run_measures
from expraug.evaluate.report import Evaluation
from expraug.evaluate.result import Line, Result
from expraug.networks.classifiers import create_fer_classifier
from expraug.networks.fer_classifier import FERClassifier, FERNet, load_fer_classifier
from expraug.progress import progress_bar

__all__ = [
    "Bootstrap",
    "Context",
    "Estimate",
    "Evaluation",
    "FERClassifier",
    "FERNet",
    "Line",
    "Result",
    "build_context",
    "create_fer_classifier",
    "evaluate",
    "load_fer_classifier",
    "progress_bar",
    "run_measures",
]
