"""Train `fevgan` from what `transfer` does to neutral faces.

    python -m recipes.embedder.train FER2013.parquet LFW.parquet@detect LONDON.parquet@detect \\
        --identity dlib --half 0 --out EMBEDDER
    python -m recipes.pairs.make_pairs DATA --out PAIRS
    python -m recipes.fevgan.lips DATA --out LIPS.safetensors
    python -m recipes.fevgan.train PAIRS --data DATA --embedder EMBEDDER --lips LIPS.safetensors \\
        --classifier CLASSIFIER --config recipes/fevgan/cpu.yaml --out expraug/weights/fevgan

A pair's clip is what it does, more and more of it, as an onset goes. CLASSIFIER, of which there may
be several, is a folder of `recipes.fer_classifier.train`; DATA and `--faces` are as
`recipes.real_faces` takes them. `--set encoders=spatial` or `identity` leaves out the other
encoder, to compare with.

`--minutes 10` stops after so long, and the same command goes on; with `--finish`, the schedule ends
with the minutes, and the run with it. Losses, and figures of people held
out of training, are appended to `log.csv` in `--work`, with a contact sheet beside it: distance to
what the examples do, as a share of that of standing still; agreement of the last frame with
CLASSIFIER; and the cosine of the worst frame to the source by EMBEDDER.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file

from expraug.networks.embedder import load_face_embedder
from expraug.networks.fer_classifier import load_fer_classifier
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan.clips import real_faces
from recipes.fevgan.learn import CATEGORIES, Setting, learn, new_synthesizer
from recipes.pairs.made import Pairs
from recipes.training.loop import RunOptions
from recipes.training.options import load_settings


def main(
    pairs: Annotated[Path, typer.Argument(help="Folder that recipes.pairs.make_pairs wrote.")],
    data: Annotated[Path, typer.Option(help="Folder of the sets of real faces.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/fevgan.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    classifier: Annotated[
        list[Path], typer.Option(help="Folder of recipes.fer_classifier.train; several.")
    ],
    embedder: Annotated[Path | None, typer.Option(help="Folder of recipes.embedder.train.")] = None,
    lips: Annotated[Path | None, typer.Option(help="What recipes.fevgan.lips wrote.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights to start from, instead of both.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.video=0; several.")
    ] = None,
    faces: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    work: Path = Path("work/fevgan"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    finish: Annotated[
        bool, typer.Option(help="What fits into the minutes is the whole run.")
    ] = False,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(setting.seed)
    if start is not None:
        first = Synthesizer.from_pretrained(start)
        if not isinstance(first, FEVGANSynthesizer):
            raise SystemExit(f"{start} is no `fevgan`: nothing can start from it")
    else:
        if embedder is None or lips is None:
            raise SystemExit(
                "who a face is and where lips are: add --embedder and --lips, or --start"
            )
        first = new_synthesizer(setting)
        first.net.identity.load_state_dict(load_face_embedder(embedder).state_dict())
        first.net.mouth.load_state_dict(load_file(lips))
    learn(
        setting,
        Pairs.load(pairs),
        real_faces(data, faces, CATEGORIES),
        [load_fer_classifier(folder) for folder in classifier],
        first,
        RunOptions(out, work, torch.device(device), minutes, finish),
    )


if __name__ == "__main__":
    typer.run(main)
