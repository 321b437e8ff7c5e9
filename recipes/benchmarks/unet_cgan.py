"""How fast `unet_cgan` makes faces, beside a generator of StarGAN's size.

    python -m recipes.benchmarks.unet_cgan [--threads 1] [--weights FOLDER] [--json OUT]

Faces per second of the synthesizer's whole `forward`, on aligned faces in memory, and of StarGAN's
generator (Choi et al., CVPR 2018), written for this from the table of its layers, with weights as
they are initialised: what they are does not change the time. Both are channels-last, in inference
mode, on the same faces, in one run, alternating; the interval of the ratio is that of its geometric
mean over the repeats. On the CPU in float32 and in bfloat16 autocast; on a CUDA card, if there is
one, in bfloat16 autocast, with the share of the card's rate of multiplying matrices that is
measured beside it. GFLOP counts a multiplication and an addition as two.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from scipy import stats
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from expraug import Expression, create_synthesizer, list_synthesizers
from expraug.synthesizer import Synthesizer

NAME = "unet_cgan"
CATEGORIES = len(Expression)
STARGAN_PARAMETERS = 8_439_936
"""Of the published generator, with eight labels and images of three channels."""


def _layer(inputs: int, outputs: int, side: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2, bias=False)
    return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]


def _enlarging(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return [convolution, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        second = _layer(channels, channels, 3, 1)[:-1]
        self.body = nn.Sequential(*_layer(channels, channels, 3, 1), *second)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.body(x)
        return x + changed


class StarGANGenerator(nn.Module):
    """StarGAN's generator; its interface is that of a synthesizer, but for the intensity.

    Args:
        labels: number of them, given to the net as maps beside the image.
    """

    def __init__(self, labels: int = CATEGORIES) -> None:
        super().__init__()
        self.labels = labels
        self.body = nn.Sequential(
            *_layer(3 + labels, 64, 7, 1),
            *_layer(64, 128, 4, 2),
            *_layer(128, 256, 4, 2),
            *(_Residual(256) for _ in range(6)),
            *_enlarging(256, 128),
            *_enlarging(128, 64),
            nn.Conv2d(64, 3, 7, 1, 3, bias=False),
            nn.Tanh(),
        )

    def forward(self, faces: Tensor, target: Tensor) -> Tensor:
        """Return (B, 3, S, S) in [-1, 1] of faces in [0, 1] and labels, (B,) long."""
        label = F.one_hot(target, self.labels).to(faces.dtype)[:, :, None, None]
        tiled = label.expand(-1, -1, *faces.shape[2:])
        made: Tensor = self.body(torch.cat([2 * faces - 1, tiled], 1))
        return made


def parameters(net: nn.Module) -> int:
    """Return the number of a net's parameters."""
    return sum(p.numel() for p in net.parameters())


def gflop(run: Callable[[], object], faces: int) -> float:
    """Return the billions of multiplications and additions of a face, in layers and products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / faces / 1e9


def seconds(run: Callable[[], object], least: float, device: torch.device) -> float:
    """Return the seconds of one call, of as many as fill so much time."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < least:
        for _ in range(10 if device.type == "cuda" else 1):
            run()
            calls += 1
        wait()
    return (time.perf_counter() - start) / calls


def matrix_rate(device: torch.device, side: int = 8192) -> float:
    """Return the FLOP per second of multiplying large bfloat16 matrices, the best of five tries."""
    one, two = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ two
    return 2 * side**3 / min(seconds(lambda: one @ two, 0.3, device) for _ in range(5))


def geometric(ratios: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean and its 95 % interval, by Student's t on the logarithms."""
    logs, count = np.log(ratios), len(ratios)
    half = float(stats.t.ppf(0.975, count - 1)) * logs.std(ddof=1) / math.sqrt(count)
    mean = logs.mean()
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


@dataclass(frozen=True)
class Comparison:
    """What was measured in one precision on one device.

    Args:
        ours, stargan: faces per second, medians.
        ratio, low, high: ours to StarGAN's, with its interval.
        gflop, stargan_gflop: of a face.
    """

    device: str
    precision: str
    batch: int
    ours: float
    stargan: float
    ratio: float
    low: float
    high: float
    gflop: float
    stargan_gflop: float


def compare(
    ours: Synthesizer,
    stargan: StarGANGenerator,
    device: torch.device,
    precision: str,
    batch: int,
    repeats: int,
    least: float,
) -> Comparison:
    """Run both, alternating.

    Args:
        precision: "float32" or "bfloat16", which is autocast.
        repeats: of each.
        least: seconds of a repeat.
    """
    layout = torch.channels_last
    for net in (ours, stargan):
        net.to(device=device, memory_format=layout).eval()  # type: ignore[call-overload]
    size = ours.image_size
    faces = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=layout)
    target = torch.arange(batch, device=device) % len(ours.expressions)
    target = torch.tensor([int(e) for e in ours.expressions], device=device)[target]
    intensity = torch.ones(batch, device=device)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(faces, target, intensity),
        "stargan": lambda: stargan(faces, target),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), autocast:
        work = {name: gflop(run, batch) for name, run in runs.items()}  # and warms up
        for run in runs.values():
            seconds(run, least, device)
        for _ in range(repeats):
            for name, run in runs.items():
                rates[name].append(batch / seconds(run, least, device))
    one, two = (np.array(rates[name]) for name in runs)
    return Comparison(
        device.type,
        precision,
        batch,
        float(np.median(one)),
        float(np.median(two)),
        *geometric(one / two),
        work["ours"],
        work["stargan"],
    )


def synthesizer(weights: Path | None, size: int, width: int) -> Synthesizer:
    """Return the weights in a folder, else the embedded ones, else a fresh net of the width."""
    if weights is not None:
        return create_synthesizer(str(weights))
    if NAME in list_synthesizers(pretrained=True):
        return create_synthesizer(NAME)
    names = [str(e) for e in Expression]
    return create_synthesizer(
        NAME, pretrained=False, expressions=names, image_size=size, width=width
    )


def main(
    weights: Annotated[Path | None, typer.Option(help="Folder; else embedded or fresh.")] = None,
    width: Annotated[int, typer.Option(help="Of a fresh net.")] = 40,
    size: Annotated[int, typer.Option(help="Of a fresh net: side of the faces.")] = 128,
    batch: Annotated[int, typer.Option(help="Batch size on the CPU.")] = 16,
    cuda_batch: Annotated[int, typer.Option(help="Batch size on a card.")] = 256,
    repeats: Annotated[int, typer.Option(min=2, help="Of each net, alternating.")] = 10,
    least: Annotated[float, typer.Option(help="Seconds of a repeat.")] = 1.0,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ours, stargan = synthesizer(weights, size, width), StarGANGenerator()
    assert parameters(stargan) == STARGAN_PARAMETERS
    plan = [("cpu", "float32", batch), ("cpu", "bfloat16", batch)]
    card = torch.cuda.is_available()
    if card:
        plan.append(("cuda", "bfloat16", cuda_batch))
    found = [
        compare(ours, stargan, torch.device(device), precision, count, repeats, least)
        for device, precision, count in plan
    ]
    rate = matrix_rate(torch.device("cuda")) if card else None

    table = Table(title=f"Faces of {ours.image_size} px, {repeats} repeats, {threads} thread(s)")
    for column in ("on", "net", "parameters", "GFLOP per face", "faces/s", "ratio", "matrix rate"):
        table.add_column(column, justify="left" if column in ("on", "net") else "right")
    for c in found:
        rows = [
            (NAME, ours, c.gflop, c.ours, f"{c.ratio:.2f} [{c.low:.2f}, {c.high:.2f}]"),
            ("StarGAN", stargan, c.stargan_gflop, c.stargan, ""),
        ]
        for name, net, work, speed, ratio in rows:
            share = f"{work * 1e9 * speed / rate:.1%}" if rate and c.device == "cuda" else ""
            where = f"{c.device}, {c.precision}, {c.batch}"
            table.add_row(
                *(where, name, f"{parameters(net):,}", f"{work:.2f}", f"{speed:.1f}", ratio, share)
            )
    console = Console()
    console.print(table)
    if rate:
        name = torch.cuda.get_device_name()
        console.print(f"{name}: {rate / 1e12:.0f} TFLOP/s in multiplying bfloat16 matrices")
    if output:
        figures = {
            "size": ours.image_size,
            "threads": threads,
            "repeats": repeats,
            "parameters": {NAME: parameters(ours), "stargan": parameters(stargan)},
            "matrix_rate": rate,
            "rows": [asdict(c) for c in found],
        }
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
