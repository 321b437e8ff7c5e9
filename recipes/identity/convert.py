"""Turn face-api's file of the dlib face descriptor into `expraug.networks.identity`'s weights.

    python -m recipes.identity.convert face_recognition_model.bin expraug/weights/dlib_descriptor

Beside the file lies `face_recognition_model-weights_manifest.json`, which gives name and shape of
each tensor, and scale and minimum of those that are stored as 8-bit integers, which they stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import typer

from expraug.errors import InvalidWeightsError, MissingWeightsError
from expraug.networks.identity import DlibDescriptor, ScaledConvolution, StoredTensor

_BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3"),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
"""face-api's names of the blocks, in the order of `DlibDescriptor.blocks`."""


def stored_tensors(descriptor: DlibDescriptor) -> Iterator[tuple[str, StoredTensor]]:
    """Yield each tensor of a descriptor, and face-api's name of it."""

    def of(layer: ScaledConvolution, name: str) -> Iterator[tuple[str, StoredTensor]]:
        yield f"{name}/conv/filters", layer.filters
        yield f"{name}/conv/bias", layer.bias
        yield f"{name}/scale/weights", layer.gain
        yield f"{name}/scale/biases", layer.shift

    yield from of(descriptor.stem, "conv32_down")
    for name, block in zip(_BLOCKS, descriptor.blocks, strict=True):
        yield from of(block.conv1, f"{name}/conv1")  # type: ignore[arg-type]
        yield from of(block.conv2, f"{name}/conv2")  # type: ignore[arg-type]
    yield "fc", descriptor.projection


def convert(file: Path) -> DlibDescriptor:
    """Return the descriptor that face-api's `.bin` file holds.

    Raises:
        MissingWeightsError: no such file, or no manifest beside it.
        InvalidWeightsError: they do not hold the descriptor.
    """
    manifest_file = file.with_name(f"{file.stem}-weights_manifest.json")
    descriptor = DlibDescriptor()
    wanted = dict(stored_tensors(descriptor))
    try:
        packed = bytearray(file.read_bytes())  # torch warns of memory that it may not write
        start = 0
        for entry in json.loads(manifest_file.read_text())[0]["weights"]:
            quantised, shape = entry.get("quantization"), entry["shape"]
            dtype, count = np.dtype(np.uint8 if quantised else np.float32), int(np.prod(shape))
            values = torch.from_numpy(np.frombuffer(packed, dtype, count, start).reshape(shape))
            start += count * dtype.itemsize
            into = wanted.pop(entry["name"])
            # filters come as (height, width, inputs, outputs)
            values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values
            if values.shape != into.values.shape or values.dtype != into.values.dtype:
                raise ValueError(f"{entry['name']} is {tuple(values.shape)}, {values.dtype}")
            into.values.copy_(values)
            if quantised:
                into.scale.fill_(quantised["scale"])
                into.minimum.fill_(quantised["min"])
        if wanted or start != len(packed):
            raise ValueError(f"{len(wanted)} tensors missing, {len(packed) - start} bytes over")
    except FileNotFoundError as error:
        raise MissingWeightsError(
            f"{error.filename} is not there; face-api's {file.name} and {manifest_file.name} must "
            f"lie in one folder"
        ) from error
    except (OSError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidWeightsError(
            f"{file} and {manifest_file.name} do not hold the dlib descriptor as face-api packs it "
            f"({error}). Fetch both again"
        ) from error
    descriptor.unpack()
    return descriptor.eval()


def main(file: Path, out: Path) -> None:
    convert(file).save_pretrained(out)


if __name__ == "__main__":
    typer.run(main)
