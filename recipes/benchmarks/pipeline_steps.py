"""The pipeline's steps, each by itself on faces that the steps before it were run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expraug import Expression, ExpressionAugmenter, SynthesisRequest, create_synthesizer
from expraug.cache import CacheEntry, SynthesisCache
from expraug.faces import LandmarkDetector
from expraug.faces.align import align
from expraug.faces.batches import composited
from expraug.faces.blaze import Crop, cut, faces_of, letterboxes
from expraug.faces.detect import DetectedFace
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.image_file import encode, provenance
from expraug.faces.landmarks import SURE, _fit, _nets
from expraug.faces.pixels import Pixels, stack
from expraug.faces.pose import head_poses
from expraug.faces.synthesized import SynthesizedFaces, joined
from expraug.landmark_gate import LandmarkGate
from expraug.networks.batching import independently
from expraug.networks.face_mesh import FaceMeshNet
from expraug.synthesizer import Synthesizer

Work = Callable[[Sequence[int]], object]
"""Does a step for some of the faces, by their numbers."""

TARGET = Expression.HAPPY
_FRAMINGS = (0.0, 0.25, 0.5)  # as `LandmarkDetector` tries them for photographs


@dataclass(frozen=True)
class Step:
    """A step of the pipeline.

    Args:
        work: does it.
        spreads: it spreads over the cores by itself; else the faces are divided between them.
    """

    work: Work
    spreads: bool = False


@dataclass
class Faces:
    """Images with a face each, and what the detector sees of them.

    Args:
        images: (H, W) or (H, W, 3) uint8.
        found: the face in each.
        pictures: (1, 1 or 3, h, w) float, framed so that the face is found.
        crops: around the face, in the picture.
        device: where nets run.
    """

    images: list[np.ndarray]
    found: list[DetectedFace]
    pictures: list[Tensor]
    crops: list[Crop]
    device: torch.device
    squares: list[Tensor] = field(default_factory=list)
    pixels: list[Tensor] = field(default_factory=list)
    points: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)


@torch.inference_mode()
def find_faces(images: Sequence[np.ndarray], device: torch.device) -> Faces:
    """Return the images in which a face is found, prepared for each net."""
    nets = _nets(str(device))
    faces = Faces([], [], [], [], device)
    for image, found in zip(images, LandmarkDetector("detect", device)(images), strict=True):
        if found is None or found.mesh is None:
            continue
        group = _fit([image], [0], device)
        for share in _FRAMINGS:
            framed = group.padded(int(share * max(group.pictures.shape[2:]))).pictures
            square = letterboxes(framed)
            boxes, logits = nets.detector(square)
            (crops,) = faces_of(boxes, logits, [(framed.shape[2], framed.shape[3])], SURE, 1)
            if crops:
                faces.images.append(image)
                faces.found.append(found)
                faces.pictures.append(framed)
                faces.crops.append(crops[0])
                faces.squares.append(square[0])
                faces.pixels.append(cut(framed, crops, FaceMeshNet.SIDE)[0] / 255)
                points = (found.mesh.astype(np.float32) + 0.5) * group.ratio
                faces.points.append(torch.from_numpy(points).float().to(device))
                break
    return faces


def landmark_steps(faces: Faces) -> dict[str, Step]:
    """Return finding faces and landmarks, step by step and whole."""
    nets, device = _nets(str(faces.device)), faces.device
    canonical, weights = nets.canonical.cpu().numpy(), nets.weights.cpu().numpy()
    meshes = [np.concatenate([p.cpu().numpy(), p.cpu().numpy()[:, :1]], 1) for p in faces.points]

    def detect(chunk: Sequence[int]) -> None:
        pictures = [_fit(faces.images, [i], device).pictures for i in chunk]
        sizes = iter([(picture.shape[2], picture.shape[3]) for picture in pictures])
        for (part,) in independently(torch.cat([letterboxes(picture) for picture in pictures])):
            boxes, logits = nets.detector(part)
            faces_of(boxes, logits, [next(sizes) for _ in part], SURE, 4)

    def mesh(chunk: Sequence[int]) -> None:
        side = FaceMeshNet.SIDE
        pixels = [cut(faces.pictures[i], [faces.crops[i]], side) / 255 for i in chunk]
        for (part,) in independently(torch.cat(pixels)):
            nets.mesh(part)[0].cpu()

    def blendshapes(chunk: Sequence[int]) -> None:
        for (part,) in independently(torch.stack([faces.points[i] for i in chunk])):
            nets.blendshapes(part).cpu()

    def pose(chunk: Sequence[int]) -> None:
        sizes = np.array([faces.pictures[i].shape[2:] for i in chunk])
        head_poses(np.stack([meshes[i] for i in chunk]), sizes, canonical, weights)

    def net(function: Callable[[Tensor], object], inputs: list[Tensor]) -> Work:
        def work(chunk: Sequence[int]) -> None:
            for (part,) in independently(torch.stack([inputs[i] for i in chunk])):
                function(part)

        return work

    whole = LandmarkDetector("detect", device)
    return {
        "detect": Step(detect),
        "mesh": Step(mesh),
        "blendshapes": Step(blendshapes),
        "pose": Step(pose),
        "net: detector": Step(net(nets.detector, faces.squares)),
        "net: mesh": Step(net(nets.mesh, faces.pixels)),
        "net: blendshapes": Step(net(nets.blendshapes, faces.points)),
        "landmarks, whole": Step(lambda chunk: whole([faces.images[i] for i in chunk]), True),
    }


class Synthesis:
    """What one synthesizer makes of faces, and the steps on the way.

    Args:
        faces: with landmarks.
        synthesizer: its name or folder.
    """

    @torch.inference_mode()
    def __init__(self, faces: Faces, synthesizer: str) -> None:
        self.faces, self.name, self.device = faces, synthesizer, faces.device
        self.net: Synthesizer = create_synthesizer(synthesizer).to(faces.device)
        size, agnostic = self.net.image_size, self.net.size_agnostic
        pairs = zip(faces.images, faces.found, strict=True)
        self.framed = [frame(image, face, size, agnostic) for image, face in pairs]
        every = range(len(faces))
        self.aligned = self._of_groups(every, self._align)
        self.inputs: list[dict[str, Tensor]] = [{} for _ in every]
        if self.net.needs_landmarks:
            for i, framed in enumerate(self.framed):
                stacked = stack_landmarks([framed]).items()
                self.inputs[i] = {k: torch.from_numpy(v).to(faces.device) for k, v in stacked}
        self.made: dict[int, SynthesizedFaces] = {}
        for group in self._groups(every):
            made = self._make(group)
            self.made |= {i: made.part([k]) for k, i in enumerate(group)}
        self.synthetic = {i: one.render(self.aligned[i][None])[0] for i, one in self.made.items()}

    def _groups(self, chunk: Sequence[int]) -> Iterator[list[int]]:
        """Yield those of the faces that can be worked on together."""
        groups: dict[object, list[int]] = {}
        for i in chunk:
            groups.setdefault(self.framed[i].group, []).append(i)
        yield from groups.values()

    def _of_groups(
        self, chunk: Sequence[int], work: Callable[[list[int]], Tensor]
    ) -> dict[int, Tensor]:
        """Return what comes of each face, (3, S, S), where those of a group are worked on."""
        groups = list(self._groups(chunk))
        return {i: one for g in groups for i, one in zip(g, work(g), strict=True)}

    def _pixels(self, images: Sequence[Pixels]) -> Tensor:
        """Return images of one shape as (B, C, h, w) uint8."""
        return stack(images).to(self.device)

    def _align(self, group: list[int]) -> Tensor:
        pixels = self._pixels([self.framed[i].reduced for i in group])
        matrices = np.stack([self.framed[i].reduced_matrix for i in group])
        size = self.framed[group[0]].size
        return align(pixels.float().div_(255), matrices, size).expand(-1, 3, -1, -1)

    def _make(self, group: list[int]) -> SynthesizedFaces:
        faces = torch.stack([self.aligned[i] for i in group])
        target = torch.full((len(group),), int(TARGET), device=self.device)
        names = self.inputs[group[0]]
        inputs = {name: torch.cat([self.inputs[i][name] for i in group]) for name in names}
        intensity = torch.ones(len(group), device=self.device)
        return self.net.synthesize(faces, target, intensity, **inputs)

    def align(self, chunk: Sequence[int]) -> None:
        """Cut faces out of their images and align them."""
        faces = self.faces
        for i in chunk:
            frame(faces.images[i], faces.found[i], self.net.image_size, self.net.size_agnostic)
        self._of_groups(chunk, self._align)

    def synthesize(self, chunk: Sequence[int]) -> None:
        """Run the synthesizer on aligned faces, those of one size together."""
        by_size: dict[int, list[int]] = {}
        for i in chunk:
            by_size.setdefault(self.framed[i].size, []).append(i)
        for group in by_size.values():
            self._make(group)

    def composite(self, chunk: Sequence[int]) -> None:
        """Put each changed face into its image."""
        for group in self._groups(chunk):
            made = joined([self.made[i] for i in group])
            patches, _ = composited([self.framed[i] for i in group], [made])
            for patch in patches:
                patch.cpu()

    def check(self, chunk: Sequence[int]) -> None:
        """Check the landmarks of synthetic faces."""
        gate = LandmarkGate()
        by_size: dict[int, list[int]] = {}
        for i in chunk:
            by_size.setdefault(self.framed[i].size, []).append(i)
        for group in by_size.values():
            faces = torch.stack([self.aligned[i] for i in group])
            made = torch.stack([self.synthetic[i] for i in group])
            target = torch.full((len(group),), int(TARGET), device=self.device)
            for part in independently(faces, made, target):
                gate.score(*part)

    def steps(self) -> dict[str, Step]:
        """Return the steps that hang on the synthesizer."""
        augmenter = ExpressionAugmenter(self.name, alignment="detect", device=self.device)

        def whole(chunk: Sequence[int]) -> None:
            augmenter(
                [self.faces.images[i] for i in chunk], [SynthesisRequest(TARGET)] * len(chunk)
            )

        return {
            f"synthesize: {self.name}": Step(self.synthesize),
            f"end to end: {self.name}": Step(whole, True),
        }


def saving_steps(images: Sequence[np.ndarray], folder: Path) -> dict[str, Step]:
    """Return keeping images: as files' bytes, and in a cache in a folder."""
    xmp = provenance("benchmark", str(TARGET), 1.0, "source")
    cache, number = SynthesisCache(folder), count()

    def store(chunk: Sequence[int]) -> None:
        keys = [next(number).to_bytes(24, "big") for _ in chunk]
        cache.put_many((k, CacheEntry(images[i])) for k, i in zip(keys, chunk, strict=True))

    return {
        "encode: JPEG": Step(lambda chunk: [encode(images[i], "jpeg", xmp) for i in chunk]),
        "encode: PNG": Step(lambda chunk: [encode(images[i], "png", xmp) for i in chunk]),
        "cache write": Step(store, True),
    }
