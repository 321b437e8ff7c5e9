"""One file for each system. Importing this package registers them all."""

from expraug.synthesizers.decoupled import DecoupledSynthesizer
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from expraug.synthesizers.pixel import PixelSynthesizer
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer

__all__ = [
    "DecoupledSynthesizer",
    "EmotionGANSynthesizer",
    "FEVGANSynthesizer",
    "PixelSynthesizer",
    "TransferSynthesizer",
    "UNetCGANSynthesizer",
]
