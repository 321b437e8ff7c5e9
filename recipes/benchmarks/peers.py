"""MediaPipe's landmarker and its nets in LiteRT, for the benchmark of the pipeline."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from expraug.networks.face_mesh import SUBSET
from expraug.threads import map_threads

Item = TypeVar("Item")
Net = Callable[[np.ndarray], object]
GRAPHS = {
    "net: detector": "face_detector.tflite",
    "net: mesh": "face_landmarks_detector.tflite",
    "net: blendshapes": "face_blendshapes.tflite",
}
"""The graphs in the `.task` file, by the steps that they are compared with."""


def _invoke(graph: Any, index: int, values: np.ndarray) -> None:
    graph.set_tensor(index, values)
    graph.invoke()


def litert_nets(task: Path) -> dict[str, Net]:
    """Return the nets of a `.task` file in LiteRT with XNNPACK, one thread each."""
    from ai_edge_litert.interpreter import Interpreter

    nets: dict[str, Net] = {}
    with zipfile.ZipFile(task) as file:
        for step, name in GRAPHS.items():
            graph = Interpreter(model_content=file.read(name), num_threads=1)
            graph.allocate_tensors()
            nets[step] = partial(_invoke, graph, graph.get_input_details()[0]["index"])
    return nets


def litert_inputs(step: str, tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Return what LiteRT's net takes where torch's takes (3, S, S) or (478, 2)."""
    if step == "net: blendshapes":
        return [t.cpu().numpy()[None, list(SUBSET)] for t in tensors]
    return [np.ascontiguousarray(t.cpu().numpy().transpose(1, 2, 0))[None] for t in tensors]


def mediapipe_detector(task: Path, mode: str) -> Callable[[np.ndarray], object]:
    """Return MediaPipe's landmarker on the framings that `LandmarkDetector` tries."""
    from recipes.landmarker.compare import mediapipe_detector

    return mediapipe_detector(task, mode)


def side_by_side(
    workers: Sequence[Callable[[Item], object]], items: Sequence[Item]
) -> Callable[[], object]:
    """Return what lets each worker, in a thread of its own, do its share of the items."""
    shares = np.array_split(np.arange(len(items)), len(workers))

    def work(worker: int) -> None:
        for i in shares[worker].tolist():
            workers[worker](items[i])

    return lambda: map_threads(work, range(len(workers)), len(workers))
