"""Makes faces in several ways and prints their digests; `test_same_bytes.py` starts it afresh.

python bytes_worker.py FOLDER_OF_FACES SYNTHESIZER...
"""

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from expraug import ExpressionAugmenter, SynthesisRequest
from expraug.gate import ExpressionGate
from expraug.networks.fer_classifier import load_fer_classifier


def images(folder: Path) -> list[np.ndarray]:
    """Return faces of several sizes and tilts, in colour and grey."""
    kinds = [(256, 0, "RGB"), (150, 7, "L"), (400, -20, "RGB"), (48, 0, "L"), (600, 12, "RGB")]
    made = []
    for file, (side, angle, mode) in zip(sorted(folder.glob("*/*.jpg")), kinds, strict=False):
        image = Image.open(file).convert(mode).resize((side, side), Image.Resampling.LANCZOS)
        made.append(np.array(image.rotate(angle, Image.Resampling.BICUBIC)))
    return made


def digest(arrays: list[np.ndarray]) -> list[str]:
    return [hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:16] for array in arrays]


class Made(Dataset):
    """What augmenters make of each image alone."""

    def __init__(self, augmenters, images):
        self.asked = [
            (a, image, r) for a in augmenters for image, r in zip(images, requests(a), strict=False)
        ]

    def __len__(self):
        return len(self.asked)

    def __getitem__(self, i):
        augmenter, image, request = self.asked[i]
        (outcome,) = augmenter([image], [request])
        return outcome.image


def requests(augmenter):
    targets = [e for e in augmenter.synthesizer.expressions if e]
    return [SynthesisRequest(targets[i % len(targets)], (0.6, 1.0)[i % 2]) for i in range(5)]


def ways(name: str, faces: list[np.ndarray], every: bool) -> dict[str, list[str]]:
    """Return the digests of the same faces, made in each way or in one."""
    augmenter = ExpressionAugmenter(name, check_landmarks=False)
    asked = requests(augmenter)
    found = {}
    for batch_size in (3,) if every else (8,):  # each alone: below
        augmenter.batch_size = batch_size
        found[f"batches of {batch_size}"] = digest([o.image for o in augmenter(faces, asked)])
    if every:
        before = torch.get_num_threads()
        with ThreadPoolExecutor(3) as pool:
            made = pool.map(Made([augmenter], faces).__getitem__, range(len(faces)))
            found["Python threads"] = digest(list(made))
        assert torch.get_num_threads() == before
    first = asked[0].target
    found["clips"] = digest([augmenter.clip(faces[i], "neutral", first, 2) for i in (0, 2)])
    return found


def scores(faces: list[np.ndarray]) -> list[str]:
    gate = ExpressionGate(load_fer_classifier(), 0)
    augmenter = ExpressionAugmenter("unet_cgan", gate=gate)
    return [repr(o.scores) for o in augmenter(faces, requests(augmenter))]


def in_workers(names: list[str], faces: list[np.ndarray]) -> dict[str, list[str]]:
    """Return the digests of the same faces, made in the workers of a DataLoader."""
    together = Made([ExpressionAugmenter(name, check_landmarks=False) for name in names], faces)
    # one, since each imports torch anew
    loader = DataLoader(together, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    made = digest([array.numpy() for array in loader])
    count = len(faces)
    return {name: made[k * count : (k + 1) * count] for k, name in enumerate(names)}


if __name__ == "__main__":
    faces = images(Path(sys.argv[1]))
    names = sys.argv[2:]
    told = {name: ways(name, faces, True) for name in names}
    for name, digests in in_workers(names, faces).items():
        told[name]["workers"] = digests
    print(json.dumps({"digests": told, "scores": scores(faces)}))
