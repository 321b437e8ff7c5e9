"""Teach a small encoder of identity what a large one sees in faces; `recipes.fevgan.train` needs
it.

    python -m recipes.embedder.train FER2013.parquet LFW.parquet@detect LONDON.parquet@detect \\
        --identity dlib --half 0 --verify LFW.parquet@detect --out EMBEDDER

Sets and `--half` are as `recipes.fer_classifier.train` takes them: only training people are seen.
The large encoder sees each face once; its vectors are kept in `--work`. `--verify` names a set that
says who
is who: how well both encoders tell its validation people apart is reported, as the area under the
ROC curve.

`--minutes 10` stops after so long, and the same command goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from expraug.networks.embedder import FaceEmbedder
from expraug.networks.identity import create_identity_encoder
from recipes.embedder.trainer import Trainer
from recipes.labelled_faces import SIZE, aligned, prepared
from recipes.pairs.data import describe, vary_alike
from recipes.training.loop import RunOptions, run

HELD_OUT = 256
"""Faces, at most and no more than a tenth of all, that are not trained on."""


def teach(faces: Tensor, encoder: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """Return the (N, D) vectors of (N, 1, S, S) uint8 faces."""
    parts = (part.to(device).float() / 255 for part in faces.split(64))
    with torch.inference_mode():
        return torch.cat([encoder(part.expand(-1, 3, -1, -1)).cpu() for part in parts])


def taught(
    work: Path,
    sets: list[str],
    half: int | None,
    limit: int,
    identity: str,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return (N, 1, S, S) uint8 faces of training people, mixed, and the teacher's vectors of them,
    from the work folder where they are there already."""
    key = xxhash.xxh64_hexdigest(describe(*sets, half, limit, identity).encode())
    file = work / f"taught-{key}.safetensors"
    if not file.is_file():
        faces = torch.cat([prepared(work, name, half, "train")["faces"] for name in sets])
        order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
        faces = faces[order[:limit]]
        vectors = teach(faces, create_identity_encoder(identity).to(device), device)
        save_file({"faces": faces, "vectors": vectors}, file)
    found = load_file(file)
    return found["faces"], found["vectors"]


def validation_people(
    work: Path, name: str, people: int, identity: str, device: torch.device
) -> dict[str, Tensor]:
    """Return two faces each of some people who are held out of training, (N, 1, S, S) uint8, their
    numbers, (N,), and the teacher's vectors, (N, D)."""
    key = xxhash.xxh64_hexdigest(describe(name, people, identity).encode())
    file = work / f"verify-{key}.safetensors"
    if not file.is_file():
        seen: Counter[str] = Counter()
        faces, who = [], []
        for item, face in aligned(name, None, "validation", SIZE):
            if face is None or item.identity is None or seen[item.identity] == 2:
                continue
            seen[item.identity] += 1
            faces.append(face)
            who.append(item.identity)
        names = [person for person, count in seen.items() if count == 2][:people]
        if len(names) < 2:
            raise SystemExit(f"{name}: fewer than two validation people with two faces each")
        kept = [i for i, person in enumerate(who) if person in names]
        chosen = torch.stack([faces[i] for i in kept])
        vectors = teach(chosen, create_identity_encoder(identity).to(device), device)
        numbers = torch.tensor([names.index(who[i]) for i in kept])
        save_file({"faces": chosen, "who": numbers, "vectors": vectors}, file)
    return load_file(file)


def area_under_roc(vectors: Tensor, who: Tensor) -> float:
    """Return how surely the cosine tells pairs of one person from pairs of two."""
    rows, columns = torch.triu_indices(len(who), len(who), offset=1)
    cosines = (vectors @ vectors.T)[rows, columns]
    return float(binary_auroc((cosines + 1) / 2, (who[rows] == who[columns]).long()))


def main(
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    identity: Annotated[str, typer.Option(help="'dlib' or 'facenet'")] = "dlib",
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    verify: Annotated[str | None, typer.Option(help="Set that says who is who.")] = None,
    people: Annotated[int, typer.Option(help="Of `--verify`, at most.")] = 150,
    faces: Annotated[int, typer.Option(help="At most: the large encoder is slow.")] = 8000,
    steps: int = 6000,
    batch: int = 64,
    rate: float = 2e-3,
    report_every: int = 500,
    seed: int = 0,
    work: Path = Path("work/embedder"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    on = torch.device(device)
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    seen, vectors = (t.to(on) for t in taught(work, sets, half, faces, identity, on))
    net = FaceEmbedder()
    if vectors.shape[1] != net.last.out_features:
        # what is alike stays alike where a random rotation is cut short
        rotation = torch.nn.init.orthogonal_(
            torch.empty(net.last.out_features, vectors.shape[1]),
            generator=torch.Generator().manual_seed(0),
        )
        vectors = torch.nn.functional.normalize(vectors @ rotation.T.to(on))
    held = min(HELD_OUT, len(seen) // 10)
    others = validation_people(work, verify, people, identity, on) if verify else None
    torch.manual_seed(seed)
    net = FaceEmbedder()
    trainer = Trainer(net, rate, steps, on)

    def step() -> dict[str, float]:
        rows = torch.randint(held, len(seen), (batch,), device=on)
        return trainer.step(vary_alike(seen[rows].float() / 255, batch), vectors[rows])

    @torch.inference_mode()
    def embed(some: Tensor) -> Tensor:
        return torch.cat([net(part.to(on).float() / 255) for part in some.split(256)])

    def report(done: int) -> dict[str, float]:
        net.save_pretrained(out)
        figures = {}
        if held:
            cosine = (embed(seen[:held]) * vectors[:held]).sum(1)
            figures["held cosine"] = float(cosine.mean())
        if others is not None:
            figures["area under ROC"] = area_under_roc(embed(others["faces"]).cpu(), others["who"])
            figures["of the teacher"] = area_under_roc(others["vectors"], others["who"])
        return figures

    print(f"{len(seen)} faces, {held} of them held out", flush=True)
    run(
        trainer,
        step,
        report,
        RunOptions(out, work, on, minutes),
        steps=steps,
        every=report_every,
        seed=seed,
    )


if __name__ == "__main__":
    typer.run(main)
