"""Turn MediaPipe's `face_landmarker.task` into the weights of `expraug.networks.face_mesh`.

    python -m recipes.landmarker.convert face_landmarker.task expraug/weights/face_landmarker

The file is a zip of three TensorFlow Lite graphs with fp16 weights and of the metadata of the face
geometry (the canonical mesh). Weights are taken in the order in which the graphs use them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite
import torch
import typer
from torch import Tensor, nn

from expraug.networks.face_mesh import (
    BlazeBlock,
    BlendshapeNet,
    FaceDetectorNet,
    FaceLandmarkNets,
    FaceMeshNet,
    MeshBlock,
    MixerBlock,
)

_TYPES = {0: np.float32, 1: np.float16, 2: np.int32}
_NAMES = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}


def constants(graph: bytes) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield name and constant inputs of every operator of a graph, in order; halves are widened."""
    model = tflite.Model.GetRootAsModel(graph, 0)
    net = model.Subgraphs(0)
    known: dict[int, np.ndarray] = {}

    def stored(index: int) -> np.ndarray | None:
        tensor = net.Tensors(index)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(data, int) or tensor.Type() not in _TYPES:
            return None
        shape = tensor.ShapeAsNumpy()
        values = np.frombuffer(data.tobytes(), _TYPES[tensor.Type()])
        return values.reshape([] if isinstance(shape, int) else shape)

    for i in range(net.OperatorsLength()):
        operator = net.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        name = _NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs, outputs = operator.InputsAsNumpy(), operator.OutputsAsNumpy()
        found = [known.get(int(k), stored(int(k))) for k in inputs]
        if name == "DEQUANTIZE":
            if found[0] is not None:
                known[int(outputs[0])] = found[0].astype(np.float32)
            continue
        yield name, [torch.from_numpy(np.array(v)) for v in found if v is not None]


def _fill(layers: list[nn.Module], graph: bytes) -> None:
    """Give convolutions and PReLUs of a list, in the order of the graph, their weights."""
    wanted = iter(layers)
    for name, values in constants(graph):
        if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "PRELU"):
            continue
        layer = next(wanted)
        if isinstance(layer, nn.PReLU):
            layer.weight.data = values[0].flatten()
            continue
        assert isinstance(layer, nn.Conv2d)
        weight = values[0]
        weight = weight.permute(3, 0, 1, 2) if name[0] == "D" else weight.permute(0, 3, 1, 2)
        assert layer.weight.shape == weight.shape, (name, layer, weight.shape)
        layer.weight.data, layer.bias.data = weight.contiguous(), values[1]  # type: ignore[union-attr]
    assert next(wanted, None) is None


def detector(graph: bytes) -> FaceDetectorNet:
    """Return BlazeFace with the weights of a graph."""
    net = FaceDetectorNet()
    layers: list[nn.Module] = [net.stem]
    for block in [*net.fine, *net.coarse]:
        assert isinstance(block, BlazeBlock)
        layers += [block.depthwise, block.pointwise]
    _fill([*layers, net.score_fine, net.score_coarse, net.box_fine, net.box_coarse], graph)
    return net


def mesh(graph: bytes) -> FaceMeshNet:
    """Return the face mesh with the weights of a graph; its net for tongues is left out."""
    net, tongue = FaceMeshNet(), nn.Conv2d(128, 1, 2)
    layers: list[nn.Module] = [net.stem, net.slope]
    for block in net.blocks:
        assert isinstance(block, MeshBlock)
        layers += [block.narrow, block.slope, block.depthwise, block.widen, block.slope_out]
    _fill([*layers, tongue, net.presence, net.points], graph)
    return net


def blendshapes(graph: bytes) -> BlendshapeNet:
    """Return the mixer with the weights of a graph."""
    net = BlendshapeNet()
    linears: list[nn.Linear] = [net.to_tokens, net.to_channels]
    norms: list[nn.LayerNorm] = []
    for block in net.blocks:
        assert isinstance(block, MixerBlock)
        linears += [block.tokens[0], block.tokens[2], block.channels[0], block.channels[2]]  # type: ignore[list-item]
        norms += [block.norm_tokens, block.norm_channels]
    wanted, gains = iter([*linears, net.head]), iter(norms)
    for name, values in constants(graph):
        if name == "CONV_2D":
            layer = next(wanted)
            layer.weight.data, layer.bias.data = values[0][:, 0, 0], values[1]
        elif name == "CONCATENATION":
            net.token.data = values[0].reshape(1, 1, -1)
        elif name == "MUL" and values and values[0].shape == (64,):
            next(gains).weight.data = values[0]
        elif name == "MUL" and values and values[0].ndim == 0:
            net.scale.data = values[0].float()
        elif name == "ADD" and values and values[0].ndim == 0:
            for norm in norms:
                norm.eps = float(values[0])
    assert next(wanted, None) is None
    assert next(gains, None) is None
    return net


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of every field of a protocol-buffer message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, at = _varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size


def geometry(metadata: bytes) -> tuple[Tensor, Tensor]:
    """Return the canonical mesh, (468, 3) in cm, and the weight of each landmark, (468,)."""
    vertices, weights = torch.empty(0), torch.zeros(468)
    for number, value in fields(metadata):
        if number == 1 and isinstance(value, bytes):  # Mesh3d
            packed = [v for n, v in fields(value) if n == 3]
            raw = b"".join(v for v in packed if isinstance(v, bytes))
            # x, y, z and two texture coordinates of each vertex
            vertices = torch.from_numpy(np.frombuffer(raw, "<f4").copy()).view(-1, 5)[:, :3]
        elif number == 2 and isinstance(value, bytes):  # landmark with its weight
            entry = dict(fields(value))
            index, weight = entry.get(1, 0), entry[2]
            assert isinstance(index, int)
            assert isinstance(weight, bytes)
            weights[index] = float(np.frombuffer(weight, "<f4")[0])
    return vertices.contiguous(), weights


def convert(task: Path) -> FaceLandmarkNets:
    """Return the nets of a `.task` file."""
    with zipfile.ZipFile(task) as file:
        parts = {Path(n).name: file.read(n) for n in file.namelist()}
    nets = FaceLandmarkNets()
    nets.detector = detector(parts["face_detector.tflite"])
    nets.mesh = mesh(parts["face_landmarks_detector.tflite"])
    nets.blendshapes = blendshapes(parts["face_blendshapes.tflite"])
    vertices, weights = geometry(parts["geometry_pipeline_metadata_landmarks.binarypb"])
    nets.canonical.copy_(vertices)
    nets.weights.copy_(weights)
    return nets.eval().requires_grad_(False)


def main(task: Path, out: Path) -> None:
    convert(task).save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
