"""Faces in images: reading, finding, aligning, and pasting a change back."""

from expraug.faces.align import TEMPLATE, align, align_image, similarity
from expraug.faces.composite import face_mask, paste_back
from expraug.faces.detect import (
    CropDetector,
    DetectedFace,
    KnownFaceDetector,
    MTCNNDetector,
    create_detector,
    detect_faces,
)
from expraug.faces.image import read_image, to_array
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.synthesized import SynthesizedFaces

__all__ = [
    "TEMPLATE",
    "CropDetector",
    "DetectedFace",
    "KnownFaceDetector",
    "LandmarkDetector",
    "MTCNNDetector",
    "SynthesizedFaces",
    "align",
    "align_image",
    "create_detector",
    "detect_faces",
    "face_mask",
    "paste_back",
    "read_image",
    "similarity",
    "to_array",
]
