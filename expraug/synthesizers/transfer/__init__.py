"""`transfer`: landmark-driven expression transfer, ours."""

from expraug.synthesizers.transfer.exemplars import fit_exemplars
from expraug.synthesizers.transfer.synthesizer import TransferSynthesizer

__all__ = ["TransferSynthesizer", "fit_exemplars"]
