"""Faces in images: reading, finding, aligning, and pasting a change back."""

from expraug.faces.alignment import TEMPLATE, align, align_image, similarity
from expraug.faces.image import read_image, to_array
from expraug.faces.landmarks import LandmarkLocator
from expraug.faces.locate import CropLocator, DetectLocator, Location, create_locator
from expraug.faces.paste import face_mask, paste_back

__all__ = [
    "TEMPLATE",
    "CropLocator",
    "DetectLocator",
    "LandmarkLocator",
    "Location",
    "align",
    "align_image",
    "create_locator",
    "face_mask",
    "paste_back",
    "read_image",
    "similarity",
    "to_array",
]
