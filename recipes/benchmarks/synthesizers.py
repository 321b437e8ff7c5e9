"""How many synthetic faces per second, once landmarks are known.

    python -m recipes.benchmarks.synthesizers transfer unet_cgan --image FACE.jpg --threads 2

A photograph's face is scaled to several sizes; landmarks are found before the clock starts, and
everything from alignment to the composited patch is timed, in batches of 64 that ask for all
expressions in turn. Medians of several rounds: faces per second, and milliseconds of processor time
per face, all threads together, which other work on the machine disturbs less.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torchvision.transforms.v2.functional import resize

from expraug import SynthesisRequest, create_synthesizer
from expraug.expressions import Expression
from expraug.faces.image import read_image
from expraug.faces.landmarks import LandmarkDetector
from expraug.pipeline.synthesize import synthesize

BATCH = 64


def main(
    names: Annotated[list[str], typer.Argument(help="Synthesizers.")],
    image: Annotated[Path, typer.Option(help="A photograph of one face.")],
    sides: Annotated[list[int], typer.Option(help="Sides of the images, in pixels.")] = [  # noqa: B006
        112,
        256,
        512,
    ],
    threads: int = 2,
    rounds: int = 5,
) -> None:
    torch.set_num_threads(threads)
    photograph = torch.from_numpy(read_image(image)).permute(2, 0, 1)
    side = min(photograph.shape[1:])
    square = photograph[:, :side, :side]
    print(f"| synthesizer, {threads} threads | " + " | ".join(f"{s} px" for s in sides) + " |")
    print("|---" * (len(sides) + 1) + "|")
    for name in names:
        model = create_synthesizer(name).eval()
        targets = [e for e in model.expressions if model.supports(Expression.NEUTRAL, e)]
        requests = [
            SynthesisRequest(targets[i % len(targets)], variant=i % model.variants)
            for i in range(BATCH)
        ]
        cells = []
        for pixels in sides:
            picture = resize(square, [pixels, pixels], antialias=True).permute(1, 2, 0).numpy()
            (face,) = LandmarkDetector("detect")([picture])
            taken = []
            for _ in range(rounds + 1):
                start = time.perf_counter(), time.process_time()
                synthesize(
                    [picture] * BATCH,
                    [face] * BATCH,
                    requests,
                    model,
                    None,
                    device=torch.device("cpu"),
                    batch_size=BATCH,
                )
                taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            wall, processor = (statistics.median(kind) for kind in zip(*taken[1:], strict=True))
            cells.append(f"{BATCH / wall:.0f} ({processor / BATCH * 1000:.1f} ms)")
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
