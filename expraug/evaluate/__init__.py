"""How good a synthesizer is: one set of figures, one table, one report for all of them."""

from expraug.evaluate.bootstrap import Bootstrap, Estimate
from expraug.evaluate.evaluation import evaluate
from expraug.evaluate.judge import FerJudge, Judge, load_judge
from expraug.evaluate.report import Evaluation

__all__ = [
    "Bootstrap",
    "Estimate",
    "Evaluation",
    "FerJudge",
    "Judge",
    "evaluate",
    "load_judge",
]
