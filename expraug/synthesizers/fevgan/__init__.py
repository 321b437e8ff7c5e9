"""FEV-GAN: a clip from one neutral face and a label."""

from expraug.synthesizers.fevgan.synthesizer import FEVGANSynthesizer

__all__ = ["FEVGANSynthesizer"]
