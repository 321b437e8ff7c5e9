"""How steady a video's face is that shows another expression: filmed photographs, so that it is
known what moves.

What an edit adds to a still face must not move. For points all over the face, where the pixels of
the edited frame come from is carried back into the photograph; the second difference over time of
these displacements is what the edit trembles, in thousandths of the canonical frame's side (about
the width of a face).

    python -m recipes.video.steadiness examples/faces/neutral --people 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from expraug import Expression, Synthesizer, create_synthesizer
from expraug.faces.align import invert
from expraug.faces.batches import aligned
from expraug.faces.detect import DetectedFace, detect_faces
from expraug.faces.frame import frame, stack_landmarks
from expraug.faces.image import read_image
from expraug.faces.landmarks import LandmarkDetector
from expraug.faces.synthesized import FLOW_FRAME
from expraug.faces.track import steady, track
from expraug.faces.warp import sample
from recipes.video.moving_camera import MovingCamera, moving_camera

SIDE = 128


@torch.inference_mode()
def displacements(
    camera: MovingCamera,
    faces: Sequence[DetectedFace],
    points: np.ndarray,
    synthesizer: Synthesizer,
    target: Expression,
    *,
    settled: bool,
) -> np.ndarray:
    """Return where points of edited frames come from, less where they are, in the photograph.

    Args:
        camera: the video.
        faces: in its frames.
        points: (N, 2) pixels of the photograph.
        synthesizer: one that moves pixels.
        target: what it makes.
        settled: whether all frames have the exemplar of the middle one.

    Returns:
        (T, N, 2) in pixels of the photograph.
    """
    framed = [frame(image, face, SIDE) for image, face in zip(camera.frames, faces, strict=True)]
    inputs = {name: torch.from_numpy(array) for name, array in stack_landmarks(framed).items()}
    targets = torch.full((len(faces),), int(target))
    extra: dict[str, Tensor] = {}
    if settled:
        middle = {name: array[len(faces) // 2, None] for name, array in inputs.items()}
        chosen = synthesizer.settle(targets[:1], torch.zeros(1, dtype=torch.long), **middle)
        extra = {name: one.expand(len(faces)) for name, one in chosen.items()}
    found = []
    for i, one in enumerate(framed):
        own = {name: array[i, None] for name, array in {**inputs, **extra}.items()}
        made = synthesizer.synthesize(
            aligned([one], torch.device("cpu")), targets[i, None], torch.ones(1), **own
        )
        assert made.flow is not None
        to_frame = one.matrix.copy()
        to_frame[:, 2] += one.origin[::-1]
        turn, shift = camera.matrices[i][:, :2], camera.matrices[i][:, 2]
        inverse = invert(to_frame[None])[0]
        places = (points @ turn.T + shift) @ inverse[:, :2].T + inverse[:, 2]
        low, high = FLOW_FRAME
        grid = torch.from_numpy(2 * (places - low) / (high - low) - 1).float().T[None, :, None]
        flow = sample(made.flow, grid)[0, :, 0].T.double().numpy()
        found.append(flow @ to_frame[:, :2].T @ np.linalg.inv(turn).T)
    return np.stack(found)


def trembling(values: np.ndarray, side: float) -> float:
    """Return the root mean square of the second difference over time, in thousandths of a side."""
    second = np.diff(values, 2, axis=0)
    return float(1000 * np.sqrt((second**2).sum(2).mean()) / side)


def ways(camera: MovingCamera) -> dict[str, tuple[list[DetectedFace], bool]]:
    """Return the faces of a video by how they are found, and whether they share an exemplar.

    Raises:
        ValueError: a frame without a face.
    """
    detector = LandmarkDetector("detect")
    alone = detector(list(camera.frames))
    followed = list(track(camera.frames, detector))
    smooth = steady(followed, list(camera.times))

    def whole(faces: Sequence[DetectedFace | None]) -> list[DetectedFace]:
        there = [face for face in faces if face is not None]
        if len(there) < len(faces):
            raise ValueError(f"no face in {len(faces) - len(there)} frames")
        return there

    return {
        "each frame alone": (whole(alone), False),
        "one exemplar": (whole(alone), True),
        "and followed": (whole(followed), True),
        "and smoothed": (whole(smooth), True),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="with photographs of faces")
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--targets", default="happy,surprise,angry")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--synthesizer", default="transfer")
    given = parser.parse_args(arguments)
    synthesizer = create_synthesizer(given.synthesizer)
    targets = [Expression.parse(name) for name in given.targets.split(",")]
    found: dict[tuple[str, str], list[float]] = {}
    for path in sorted(given.folder.iterdir())[: given.people]:
        photograph = read_image(path)
        (faces,) = detect_faces([path])
        points = np.asarray(faces[0].mesh, np.float64) + 0.5
        side = float(np.ptp(points, axis=0).max())
        filmed = [photograph] * given.frames
        cameras = {
            "still": moving_camera(filmed, sway=0),
            "moving": moving_camera(filmed),
        }
        for camera_name, camera in cameras.items():
            for way, (there, settled) in ways(camera).items():
                for target in targets:
                    moved = displacements(
                        camera, there, points, synthesizer, target, settled=settled
                    )
                    found.setdefault((way, camera_name), []).append(trembling(moved, side))
    table = Table(
        title=f"{given.synthesizer}: trembling of {', '.join(map(str, targets))} on "
        f"{given.people} people, in thousandths of a face"
    )
    for column in ("", "camera still", "camera moving"):
        table.add_column(column)
    for way in dict.fromkeys(way for way, _ in found):
        table.add_row(way, *(f"{np.mean(found[way, name]):.2f}" for name in ("still", "moving")))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
