"""The nets that find a face and its mesh, for one picture at a time on a CPU: twice as fast.

The nets are small: a processor spends more on memory and on starting operations than on sums. So
weights are laid out beforehand; activations are lines of pixels, (height, width * C), of which the
channels lie side by side; a convolution of one pixel is a matrix product, added to what is there;
and there are few large temporaries, for which the system would have to find memory. Results are the
modules' but for rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expraug.networks.face_mesh import (
    BlazeBlock,
    FaceDetectorNet,
    FaceLandmarkNets,
    FaceMeshNet,
    MeshBlock,
)

_VECTOR = 16
"""Numbers in a processor's widest vector."""


class _Convolution(NamedTuple):
    """Arguments of `F.conv2d`."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int
    groups: int


class _Product(NamedTuple):
    """A convolution of one pixel: (inputs, outputs), and its bias, again and again for a line."""

    weight: Tensor
    bias: Tensor


def _convolution(layer: nn.Conv2d, padding: int = 0) -> _Convolution:
    assert layer.bias is not None
    weight = layer.weight.contiguous(memory_format=torch.channels_last)
    return _Convolution(weight, layer.bias, layer.stride[0], padding, layer.groups)


def _product(layer: nn.Conv2d, width: int) -> _Product:
    """Prepare a convolution of one pixel for lines of so many."""
    assert layer.bias is not None
    return _Product(layer.weight[:, :, 0, 0].t().contiguous(), layer.bias.repeat(width))


def _convolve(lines: Tensor, channels: int, by: _Convolution) -> Tensor:
    """Return the lines' convolution as lines."""
    image = lines.view(1, len(lines), -1, channels).permute(0, 3, 1, 2)
    return _lines(F.conv2d(image, by.weight, by.bias, by.stride, by.padding, 1, by.groups))


def _lines(image: Tensor) -> Tensor:
    """Return (H, W * C) of (1, C, H, W)."""
    return image.permute(0, 2, 3, 1).reshape(image.shape[2], -1)


def _add(total: Tensor, lines: Tensor, by: _Product) -> None:
    """Add the product of lines to others, in place."""
    total.add_(by.bias)
    inputs, outputs = by.weight.shape
    total.view(-1, outputs).addmm_(lines.view(-1, inputs), by.weight)


def _halved(lines: Tensor, channels: int) -> Tensor:
    """Return the largest of each two by two pixels."""
    upper, lower = lines.view(len(lines) // 2, 2, -1).unbind(1)
    left, right = torch.maximum(upper, lower).view(len(upper), -1, 2, channels).unbind(2)
    return torch.maximum(left, right).flatten(1)


def _filled(lines: Tensor, channels: int, wanted: int) -> Tensor:
    """Return the pixels with zeros for the channels that they lack."""
    if channels == wanted:
        return lines
    return F.pad(lines.view(len(lines), -1, channels), (0, wanted - channels)).flatten(1)


class _MeshStep(NamedTuple):
    down: bool
    inputs: int
    middle: int
    outputs: int
    narrow: _Convolution | _Product
    slope: Tensor
    depthwise: _Convolution
    widen: _Product
    slope_out: Tensor


class MeshOnCPU:
    """`FaceMeshNet` for one crop.

    Args:
        net: with its weights, which are copied.
    """

    @torch.no_grad()
    def __init__(self, net: FaceMeshNet) -> None:
        side = net.SIDE // 2
        self._stem, self._slope = _convolution(net.stem), net.slope.weight.repeat(side)
        self._steps: list[_MeshStep] = []
        for block in net.blocks:
            assert isinstance(block, MeshBlock)
            middle, inputs = block.narrow.weight.shape[:2]
            if block.down:
                side //= 2
                narrow: _Convolution | _Product = _convolution(block.narrow)
            else:
                # two pixels at once where products have so few columns that they are slow
                pixels = 2 if middle < _VECTOR else 1
                weight, bias = _product(block.narrow, pixels)
                narrow = _Product(torch.kron(torch.eye(pixels), weight), bias)
            self._steps.append(
                _MeshStep(
                    block.down,
                    inputs,
                    middle,
                    block.outputs,
                    narrow,
                    block.slope.weight.repeat(side),
                    _convolution(block.depthwise, 1),
                    _product(block.widen, side),
                    block.slope_out.weight.repeat(side),
                )
            )
        self._heads = [
            (head.weight.permute(0, 2, 3, 1).flatten(1).contiguous(), head.bias)
            for head in (net.points, net.presence)
        ]

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `FaceMeshNet.forward` does, for (1, 3, 256, 256)."""
        stem = self._stem
        x = _lines(F.conv2d(F.pad(crops, (0, 1, 0, 1)), stem.weight, stem.bias, stem.stride))
        x = F.prelu(x, self._slope)
        for step in self._steps:
            if isinstance(step.narrow, _Convolution):
                y = _convolve(x, step.inputs, step.narrow)
                x = _filled(_halved(x, step.inputs), step.inputs, step.outputs)
            else:
                weight, bias = step.narrow
                y = torch.addmm(bias, x.view(-1, len(weight)), weight).view(len(x), -1)
            y = _convolve(F.prelu(y, step.slope), step.middle, step.depthwise)
            _add(x, y, step.widen)
            x = F.prelu(x, step.slope_out)
        points, presence = (F.linear(x.view(1, -1), *head) for head in self._heads)
        return points.unflatten(1, (-1, 3)), presence[:, 0]


class _BlazeStep(NamedTuple):
    stride: int
    inputs: int
    outputs: int
    depthwise: _Convolution
    pointwise: _Product


class DetectorOnCPU:
    """`FaceDetectorNet` for one picture.

    Args:
        net: with its weights, which are copied.
    """

    @torch.no_grad()
    def __init__(self, net: FaceDetectorNet) -> None:
        side = net.SIDE // 2
        self._stem = _convolution(net.stem)
        self._parts: list[tuple[list[_BlazeStep], list[_Product]]] = []
        for part, *heads in (
            (net.fine, net.box_fine, net.score_fine),
            (net.coarse, net.box_coarse, net.score_coarse),
        ):
            steps = []
            for block in part:
                assert isinstance(block, BlazeBlock)
                side //= block.stride
                steps.append(
                    _BlazeStep(
                        block.stride,
                        block.depthwise.in_channels,
                        block.outputs,
                        _convolution(block.depthwise, int(block.stride == 1)),
                        _product(block.pointwise, side),
                    )
                )
            self._parts.append((steps, [_product(head, 1) for head in heads]))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `FaceDetectorNet.forward` does, for (1, 3, 128, 128)."""
        stem = self._stem
        x = _lines(F.conv2d(F.pad(images, (1, 2, 1, 2)), stem.weight, stem.bias, stem.stride))
        x = x.relu_()
        boxes, scores = [], []
        for steps, heads in self._parts:
            for step in steps:
                y = x
                if step.stride == 2:  # at its end alone, as TensorFlow pads an even side
                    image = x.view(len(x), -1, step.inputs)
                    y = F.pad(image, (0, 0, 0, 1, 0, 1)).flatten(1)
                    x = _halved(x, step.inputs)
                y = _convolve(y, step.inputs, step.depthwise)
                x = _filled(x, step.inputs, step.outputs)
                _add(x, y, step.pointwise)
                x.relu_()
            pixels = x.view(-1, steps[-1].outputs)
            box, score = (torch.addmm(head.bias, pixels, head.weight) for head in heads)
            boxes.append(box.view(-1, 16))
            scores.append(score.view(-1))
        return torch.cat(boxes)[None], torch.cat(scores)[None]


class NetsOnCPU:
    """`FaceLandmarkNets` for one picture at a time.

    Args:
        nets: with their weights, on the CPU.
    """

    def __init__(self, nets: FaceLandmarkNets) -> None:
        self.detector, self.mesh = DetectorOnCPU(nets.detector), MeshOnCPU(nets.mesh)
        self.blendshapes = nets.blendshapes
        self.canonical, self.weights = nets.canonical, nets.weights
