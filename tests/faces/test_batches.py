"""Many faces at once, padded, as devices other than the CPU work on them."""

import numpy as np
import pytest
import torch
from PIL import Image

from expraug.faces import CropDetector, LandmarkDetector
from expraug.faces.batches import aligned, aligned_padded, composited, composited_padded, ordered
from expraug.faces.frame import frame
from expraug.faces.pixels import as_tensor
from expraug.faces.synthesized import SynthesizedFaces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def framed(neutral_images):
    """Faces of several sizes and tilts, some of them at the image's end, as tensors."""
    kinds = [(256, 0), (150, 7), (700, -20), (48, 0), (1100, 12), (256, 5)]
    images = []
    for image, (side, angle) in zip(neutral_images, kinds, strict=False):
        picture = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
        images.append(np.array(picture.rotate(angle, Image.Resampling.BICUBIC)))
    images[3] = images[3][:40]
    images[5] = images[5][:, 60:]
    found = LandmarkDetector("crop")(images)
    found[3] = CropDetector()([images[3]])[0]
    assert None not in found
    tensors = [as_tensor(image, CPU) for image in images]
    faces = [frame(t, face, 128) for t, face in zip(tensors, found, strict=True)]
    return [faces[i] for i in ordered(faces)]


def test_alignment_is_the_same_but_for_rounding(framed):
    exact, padded = aligned(framed, CPU), aligned_padded(framed, CPU)
    assert exact.shape == (6, 3, 128, 128)
    assert (exact - padded).abs().max() < 2e-4
    assert exact.std((1, 2, 3)).min() > 0.05, "these are pictures"


def test_compositing_is_the_same_but_for_rounding(framed):
    torch.manual_seed(0)
    changes = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 8) - 0.5, (128, 128))
    changes[2] = 0
    made = [SynthesizedFaces(changes / 2), SynthesizedFaces(changes)]
    exact, unchanged = composited(framed, made)
    padded, unchanged_too = composited_padded(framed, made)
    assert unchanged.tolist() == unchanged_too.tolist() == [i == 2 for i in range(6)]
    for one, other, face in zip(exact, padded, framed, strict=True):
        top, left, bottom, right = face.box(False)
        assert one.shape == other.shape == (2, bottom - top, right - left, 3)
        difference = (one.int() - other.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.01
    source = framed[2].pixels[:, framed[2].box(False)[0] : framed[2].box(False)[2]]
    assert torch.equal(padded[2][1].permute(2, 0, 1),
                       source[:, :, framed[2].box(False)[1] : framed[2].box(False)[3]])  # fmt: skip


def test_grey_faces_come_together_with_coloured_ones(framed, neutral_images):
    grey = as_tensor(np.array(Image.fromarray(neutral_images[6]).convert("L")), CPU)
    (found,) = CropDetector()([grey])
    mixed = [framed[0], frame(grey, found, 128)]
    assert torch.allclose(aligned(mixed, CPU), aligned_padded(mixed, CPU), atol=2e-4)
    patches, _ = composited_padded(mixed, [SynthesizedFaces(torch.full((2, 3, 128, 128), 0.2))])
    assert [patch.shape[-1] for patch in patches] == [3, 1]
