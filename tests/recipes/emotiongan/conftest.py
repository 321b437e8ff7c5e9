"""A small generator, faces, and `emotiongan` fitted on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from small_faces import CONFIGURATION, SHOWN, SIZE, CoarsePicture
from typer.testing import CliRunner

from expraug import Expression
from expraug.datasets import person_split
from expraug.latent.generator import LatentEncoder, StyleGenerator
from expraug.networks.fer_classifier import FERNet
from recipes.emotiongan import fit


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `recipes.latent.train_generator` writes."""
    torch.manual_seed(0)
    made = StyleGenerator(SIZE, [16, 16, 8, 8], 12)
    made.fit_mapping(torch.randn(256, made.layers, 12))
    nets = {"generator": made, "encoder": LatentEncoder(SIZE, made.layers, 12, (8, 8, 8))}
    folder = tmp_path_factory.mktemp("generator")
    state = {f"{n}.{k}": t.contiguous() for n, m in nets.items() for k, t in m.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIGURATION))
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    FERNet([str(e) for e in Expression][:7], width=8).eval().save_pretrained(folder)
    return folder


def names_in(split: str, count: int) -> list[str]:
    """Return people of a split, every second of whom belongs to the classifier's half."""
    from recipes.splits import half_of_person

    people = [n for n in (f"person {i}" for i in range(3000)) if person_split(n) == split]
    if split != "train":
        return people[:count]
    splits = [[n for n in people if half_of_person(n) == half] for half in (0, 1)]
    return [n for pair in zip(*splits, strict=False) for n in pair][:count]


@pytest.fixture(scope="module")
def sets(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A set that names its people, and one that does not; and one of people held out."""
    folder = tmp_path_factory.mktemp("sets")
    pictures = sorted(faces.glob("*/*.jpg"))

    def write(name: str, people: list[str] | None, repeat: int, first: int) -> Path:
        rows = []
        for number, path in enumerate(pictures * repeat):
            shade = Image.open(path).convert("L").resize((64, 64))
            shade = shade.point(lambda v, n=first + number: min(255, int(v * (0.6 + 0.004 * n))))
            out = folder / f"{name}-{number}.png"
            shade.save(out)
            label = SHOWN[number % 3] if people is None else SHOWN[number % 2]
            rows.append((out, str(label), people and people[number // 2 % len(people)]))
        table = {
            "image": [{"bytes": p.read_bytes(), "path": p.name} for p, _, _ in rows],
            "expression": [label for _, label, _ in rows],
        }
        if people is not None:
            table["identity"] = [who for _, _, who in rows]
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
        return folder / f"{name}.parquet"

    return {
        "nameless": write("nameless", None, 3, 0),
        "named": write("named", names_in("train", 20), 2, 60),
        "held": write("held", names_in("test", 8), 1, 100),
    }


@pytest.fixture(scope="module")
def fitted(
    generator: Path,
    classifier: Path,
    sets: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, str]]:
    """Fit with options and return the folder and what was printed."""
    app = typer.Typer()
    app.command()(fit.main)
    work = tmp_path_factory.mktemp("work")

    def run(
        *arguments: str, source: str | None = None, shown: Sequence[Expression] = SHOWN
    ) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp("emotiongan")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit, "create_identity_encoder", lambda name: CoarsePicture())
            patch.setattr(fit, "EXPRESSIONS", tuple(shown))
            patch.setattr(
                fit,
                "pose_of",
                lambda grey: (
                    grey.float()
                    .flatten(1)[:, [200, 500, 530]]
                    .masked_fill(grey[:, 0, :1, 5] > 200, torch.nan)
                ),
            )
            command = [source or generator, sets["nameless"], sets["named"], "--half", 0]
            command += ["--classifier", classifier, "--work", work, "--out", out, "--device", "cpu"]
            command += ["--set", "sources=5", "--set", "grid=4", "--set", "largest=3"]
            command += ["--set", "model=labels"]
            done = CliRunner().invoke(app, [*map(str, command), *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return out, done.output

    return run
