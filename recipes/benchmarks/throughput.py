"""How many faces per second a device makes, step by step, and how much of the device that takes.

    python -m recipes.benchmarks.throughput --device cuda --out docs/throughput.csv [--tiny]

Faces are the bundled ones, mirrored and lit otherwise so that each is another, as uint8 batches on
the device. "end to end" is `RandomExpression` on such a batch: detector, landmarks, alignment,
synthesis, compositing and the landmark check, nothing cached. The other rows are its steps, each on
what the step before made. Median of several rounds after a first, the device waited for.

Beside the speed stands what the same run measured of the device itself: the share of its copy
bandwidth that a step's operations reach with what they read and write, and the share of its bf16
matrix rate (8192 x 8192 x 8192) that its convolutions and matrix products reach. Both low: the step
waits for the host to start operations. "fp32" is without TF32, "tf32" with it, "bf16" in autocast.

Peers: a generator of StarGAN's size (Choi et al. 2018, 128 px), torchvision's `ElasticTransform`,
and a flip with `ColorJitter`, which draw once for a whole batch.

Rows are written as they come, the most valuable first; what comes after `--minutes` is left out.
"""

from __future__ import annotations

import contextlib
import csv
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from expraug import Expression, ExpressionAugmenter, create_synthesizer, list_synthesizers
from expraug.faces import LandmarkDetector
from expraug.faces.batches import aligned, composited, ordered
from expraug.faces.composite import masked
from expraug.faces.frame import FramedFace, frame, stack_landmarks
from expraug.faces.landmarks import read_aligned
from expraug.landmark_gate import LandmarkGate
from expraug.synthesizer import Synthesizer
from expraug.transforms.torchvision import RandomExpression
from recipes.benchmarks.stargan import StarGANSize

FACES = Path(__file__).parents[2] / "examples" / "faces" / "neutral"
OURS = "expraug"
_LONGEST = 0.5  # seconds that a figure is measured, but for …
_LEAST, _MOST = 3, 7  # … so many rounds


@dataclass(frozen=True)
class Row:
    """A figure.

    Args:
        device: name of the card or processor.
        step: what was done.
        by: the synthesizer, or the peer.
        pixels, batch: side of the images, and how many.
        precision: "fp32", "tf32" or "bf16".
        per_second: faces; of the device itself GB or TFLOP.
        copy_share, matrix_share: of the device's own rates; empty where nothing was counted.
        operations: started for the batch.
        note: "ok", or "failed: why".
        batch_asked: images that the batch was made of; in some no face may have been found.
    """

    device: str
    step: str
    by: str
    pixels: int
    batch: int
    precision: str
    per_second: float
    copy_share: float | str = ""
    matrix_share: float | str = ""
    operations: int | str = ""
    note: str = "ok"
    batch_asked: int = 0


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes of what they read and write; views are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            whole = func.decompose(*args, **kwargs)
        if whole is not NotImplemented:
            return whole
        out = func(*args, **kwargs)
        if not func.is_view:
            seen = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in seen)
            self.operations += 1
        return out


@contextlib.contextmanager
def precision_of(name: str, device: torch.device) -> Iterator[None]:
    """Work in a precision."""
    cuda: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [one.allow_tf32 for one in cuda]
    for one in cuda:
        one.allow_tf32 = name == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
            yield
    finally:
        for one, value in zip(cuda, before, strict=True):
            one.allow_tf32 = value


class Bench:
    """Measures, and writes a row for each figure.

    Args:
        device: what is measured.
        file: the rows go there.
        until: `time.monotonic` after which nothing is begun.
        tiny: once each, for a try.
    """

    def __init__(self, device: torch.device, file: TextIO, until: float, tiny: bool) -> None:
        self.device, self.file, self.until, self.tiny = device, file, until, tiny
        self.writer = csv.writer(file)
        self.writer.writerow([f.name for f in fields(Row)])
        cuda = device.type == "cuda"
        self.name = torch.cuda.get_device_name(device) if cuda else "CPU"
        self.rows: list[Row] = []
        self.copy_rate = self.matrix_rate = float("nan")
        self.asked = 0  # images of the batch that is measured now

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the median time of some work."""
        work()
        self.wait()
        taken: list[float] = []
        begun = time.perf_counter()
        while not taken or (
            not self.tiny
            and len(taken) < _MOST
            and (len(taken) < _LEAST or time.perf_counter() - begun < _LONGEST)
        ):
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def write(self, row: Row) -> None:
        """Keep a row, and write it at once."""
        row = replace(row, batch_asked=self.asked)
        self.rows.append(row)
        self.writer.writerow(astuple(row))
        self.file.flush()
        print(*astuple(row)[1:], sep="  ", flush=True)

    def measure(
        self,
        step: str,
        by: str,
        pixels: int,
        batch: int,
        work: Callable[[], object],
        precision: str = "fp32",
    ) -> None:
        """Measure some work on a batch; what goes wrong becomes a row too."""
        about = (self.name, step, by, pixels, batch, precision)
        if time.monotonic() > self.until:
            return
        try:
            with precision_of(precision, self.device):
                seconds = self.seconds(work)
                with Traffic() as traffic, FlopCounterMode(display=False) as flops:
                    work()
        except Exception as error:
            self.wait()
            self.write(Row(*about, 0.0, note=f"failed: {type(error).__name__}: {error}"[:200]))
            return
        shares = (
            float(f"{traffic.bytes / seconds / self.copy_rate:.3g}"),
            float(f"{flops.get_total_flops() / seconds / self.matrix_rate:.3g}"),
        )
        self.write(Row(*about, round(batch / seconds, 1), *shares, traffic.operations))

    def own_rates(self) -> None:
        """Measure what the device copies and multiplies."""
        count = 1 << (22 if self.tiny else 30)
        bytes_there = torch.zeros(count, dtype=torch.uint8, device=self.device)
        copied = torch.empty_like(bytes_there)
        self.copy_rate = 2 * count / self.seconds(lambda: copied.copy_(bytes_there))
        side = 256 if self.tiny else 8192
        matrix = torch.randn(side, side, dtype=torch.bfloat16, device=self.device)
        self.matrix_rate = 2 * side**3 / self.seconds(lambda: matrix @ matrix)
        for step, rate in (
            ("copy, GB", self.copy_rate / 1e9),
            ("bf16, TF", self.matrix_rate / 1e12),
        ):
            self.write(Row(self.name, step, "device", 0, 1, "bf16", float(f"{rate:.4g}")))


def some_faces(pixels: int, count: int, device: torch.device) -> Tensor:
    """Return (count, 3, pixels, pixels) uint8 photographs on a device, no two alike."""
    bases = []
    for path in sorted(FACES.iterdir()):
        with Image.open(path) as image:
            bases.append(
                np.array(image.convert("RGB").resize((pixels, pixels), Image.Resampling.BOX))
            )
    made = []
    for i in range(count):
        base, turn = bases[i % len(bases)], i // len(bases)
        base = base[:, ::-1] if turn % 2 else base
        light = 0.8 + 0.35 * (turn % 32) / 32
        made.append(np.clip(base * light, 0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous().to(device)


def measure_peers(bench: Bench, sizes: Sequence[int], batch: int) -> None:
    """Measure what other people's augmentation costs."""
    device, bench.asked = bench.device, batch
    side = 32 if bench.tiny else 128
    net = StarGANSize().eval().requires_grad_(False).to(device)
    faces = torch.rand(batch, 3, side, side, device=device)
    classes = torch.eye(8, device=device)[torch.arange(batch, device=device) % 8]
    for precision in ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32",):
        name = "StarGAN-size generator"
        bench.measure("synthesize", name, side, batch, lambda: net(faces, classes), precision)
    flip = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)])
    for pixels in sizes:
        images = some_faces(pixels, batch, device)
        for name, transform in (
            ("ElasticTransform", v2.ElasticTransform()),
            ("flip + jitter", flip),
        ):
            work = _applied(transform, images)
            bench.measure("transform", f"torchvision {name}", pixels, batch, work)


def _applied(transform: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], object]:
    return lambda: transform(images)


def measure_detection(bench: Bench, images: Tensor) -> None:
    """Measure what comes before any synthesizer."""
    pixels, batch, rows = images.shape[-1], len(images), list(images)
    detector = LandmarkDetector("crop", bench.device)
    bench.measure("detector, landmarks, pose", OURS, pixels, batch, lambda: detector(rows))
    faces = images.float() / 255
    bench.measure("landmarks of aligned", OURS, pixels, batch, lambda: read_aligned(faces))


def measure_synthesizer(
    bench: Bench, name: str, images: Tensor, precisions: Sequence[str], every: bool
) -> None:
    """Measure a synthesizer end to end and step by step.

    Args:
        bench: measures.
        name: of the synthesizer.
        images: (B, 3, H, W) uint8 on the device.
        precisions: in which it is measured end to end and by itself; the other steps are in fp32.
        every: the other steps, too.
    """
    device, pixels, batch = bench.device, images.shape[-1], len(images)
    door = RandomExpression(
        [str(e) for e in Expression],
        augmenter=ExpressionAugmenter(name, device=device, batch_size=batch),
        p=1.0,
        seed=0,
    )
    labels = torch.full((batch,), int(Expression.NEUTRAL), device=device)
    # whatever the precision around it, the pipeline works in single precision
    bench.measure("end to end", name, pixels, batch, lambda: door(images, labels))
    if time.monotonic() > bench.until:
        return
    net = create_synthesizer(name).to(device).requires_grad_(False)
    rows = list(images)
    found = LandmarkDetector("crop", device)(rows)
    framed = [
        frame(image, face, net.image_size, net.size_agnostic)
        for image, face in zip(rows, found, strict=True)
        if face is not None
    ]
    framed = [framed[i] for i in ordered(framed)]
    framed = [face for face in framed if face.size == framed[0].size]  # as the pipeline works
    count = len(framed)
    faces = aligned(framed, device)
    make = _synthesis(net, framed, faces)
    made = make()
    shown, target = masked(made).render(faces), labels.new_full((count,), int(Expression.HAPPY))
    gate = LandmarkGate()
    for precision in precisions:
        bench.measure("synthesize", name, pixels, count, make, precision)
    if not every:
        return
    bench.measure("align", name, pixels, count, lambda: aligned(framed, device))
    bench.measure("composite", name, pixels, count, lambda: composited(framed, [made]))
    bench.measure("check", name, pixels, count, lambda: gate.score(faces, shown, target))


def _synthesizer(bench: Bench, name: str, images: Tensor, every: bool) -> None:
    """Measure a synthesizer; one that cannot even be prepared is a row, too."""
    all_three = every and bench.device.type == "cuda"
    try:
        precisions = ("fp32", "tf32", "bf16") if all_three else ("fp32",)
        measure_synthesizer(bench, name, images, precisions, every)
    except Exception as error:
        about = (bench.name, "prepare", name, images.shape[-1], len(images), "fp32")
        bench.write(Row(*about, 0.0, note=f"failed: {type(error).__name__}: {error}"[:200]))


def _synthesis(net: Synthesizer, framed: Sequence[FramedFace], faces: Tensor) -> Callable[[], Any]:
    device, count = faces.device, len(faces)
    targets = [int(e) for e in net.expressions if net.supports(Expression.NEUTRAL, e)]
    target = torch.tensor([targets[i % len(targets)] for i in range(count)], device=device)
    inputs = {}
    if net.needs_landmarks:
        known = stack_landmarks(framed)
        inputs = {key: torch.from_numpy(array).to(device) for key, array in known.items()}
    if net.variants > 1:
        inputs["variant"] = torch.arange(count, device=device) % net.variants
    return lambda: net.synthesize(faces, target, torch.ones(count, device=device), **inputs)


def main(
    out: Annotated[Path, typer.Option(help="CSV file for the figures.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    synthesizer: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    sizes: Annotated[list[int], typer.Option(help="Sides of the images.")] = [112, 224],  # noqa: B006
    batches: Annotated[list[int], typer.Option(help="Faces of a batch.")] = [64, 256],  # noqa: B006
    minutes: Annotated[float, typer.Option(help="Nothing is begun after them.")] = 1.5,
    tiny: Annotated[bool, typer.Option(help="Each once, with few faces: a try.")] = False,
) -> None:
    where = torch.device(device)
    names = synthesizer or sorted(list_synthesizers(pretrained=True), key=lambda n: n != "transfer")
    if tiny:
        sizes, batches = sizes[:1], [3]
    out.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    with out.open("w", newline="") as file, torch.inference_mode():
        bench = Bench(where, file, until, tiny)
        bench.own_rates()
        measure_peers(bench, sizes, batches[-1])
        kinds = [(batch, pixels) for batch in batches for pixels in sizes]
        for batch, pixels in kinds:
            images, bench.asked = some_faces(pixels, batch, where), batch
            measure_detection(bench, images)
            _synthesizer(bench, names[0], images, every=True)
        for number, (batch, pixels) in enumerate(kinds):
            images, bench.asked = some_faces(pixels, batch, where), batch
            for name in names[1:]:
                _synthesizer(bench, name, images, every=not number)
    if time.monotonic() > until:
        print(f"stopped after {minutes} minutes: what was to come after is left out")


if __name__ == "__main__":
    typer.run(main)
