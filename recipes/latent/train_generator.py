"""Train the generator of faces, and the encoder that inverts it, from real faces.

    python -m recipes.latent.train_generator FER2013.parquet LFW.parquet@detect \\
        LONDON.parquet@detect \\
        --classifier CLASSIFIER --half 0 --config recipes/latent/cpu.yaml --out GENERATOR

Sets and `--half` are as `recipes.fer_classifier.train` takes them, and CLASSIFIER is one of that
half: what is classified by the other half's net has then met none of its faces.
`recipes.emotiongan.fit` and `recipes.decoupled.train` begin with GENERATOR.

`--minutes 10` stops after so long, and the same command goes on. Losses are appended to `log.csv`
in `--work`, with a sheet of real faces, their reconstructions, and random draws beside it.

A painted generator begins with pictures and flows fitted to the faces and their landmarks, which
MediaPipe finds and `--work` keeps, and with an encoder that has learned to see those shapes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize
from torchvision.utils import save_image

from expraug.faces.composite import hide_background
from expraug.latent.generator import LatentEncoder, StyleGenerator, encode
from expraug.networks.fer_classifier import load_fer_classifier, see
from recipes.face_measures import mesh_of
from recipes.labelled_faces import SIZE, prepared
from recipes.latent.trainer import Options, Trainer, teach_shapes
from recipes.training.loop import RunOptions, run
from recipes.training.options import load_settings

HELD_OUT = 32
"""Faces that are not trained on, to watch the training by: two rows of a sheet."""


MAPPED = 4000
"""Faces, at most, whose latents random draws are to be like."""


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, channels, width, painted: of the generator, as `StyleGenerator` takes them.
        encoder_channels: as `LatentEncoder` takes them.
        shape_steps: in which the encoder of a painted generator learns shapes, before all else.
        steps: of training.
        batch: real faces of a step, and random draws.
        report_every: steps between two lines of the log, two sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 64
    channels: tuple[int, ...] = (192, 160, 96, 48, 24)
    width: int = 128
    painted: bool = True
    shape_steps: int = 3000
    encoder_channels: tuple[int, ...] = (32, 64, 128, 192)
    steps: int = 8000
    batch: int = 16
    report_every: int = 250
    seed: int = 0
    options: Options = field(default_factory=Options)


def real_faces(work: Path, sets: list[str], half: int | None, size: int) -> Tensor:
    """Return (N, 1, size, size) uint8 faces of training people."""
    faces = torch.cat([prepared(work, name, half, "train", size)["faces"] for name in sets])
    return faces[mixed(len(faces))]


def landmarks_of(work: Path, sets: list[str], half: int | None, size: int) -> Tensor:
    """Return (N, 478, 2) landmarks of `real_faces`, as fractions of the frame; nan for none."""
    found = []
    for name in sets:
        key = xxhash.xxh64_hexdigest(f"{name} {half} {size}".encode())
        file = work / f"landmarks-{key}.safetensors"
        if not file.is_file():
            faces = prepared(work, name, half, "train", size)["faces"]
            save_file({"landmarks": mesh_of(faces)}, file)
        found.append(load_file(file)["landmarks"])
    points = torch.cat(found)
    return points[mixed(len(points))]


def mixed(count: int) -> Tensor:
    """Return the order that faces are taken in."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def begin_with_pictures(
    generator: StyleGenerator,
    encoder: LatentEncoder,
    faces: Tensor,
    landmarks: Tensor,
    steps: int,
) -> float:
    """Fit the pictures, and teach the encoder the shapes of the faces.

    Args:
        faces: (N, 1, S, S) uint8.
        landmarks: (N, V, 2) of them.
        steps: of the encoder.

    Returns:
        The root mean square, in pixels, of how far the encoder is off where faces move.
    """
    assert generator.pictures is not None
    seen = landmarks.isfinite().all(2).all(1)
    parts = faces.cpu()[seen].split(512)
    hidden = torch.cat([hide_background(part.float() / 255) for part in parts])
    shapes = generator.pictures.fit(hidden, landmarks[seen])
    generator.pictures.to(faces.device)
    return teach_shapes(encoder, generator.pictures, hidden, shapes, steps, faces.device)


def save(folder: Path, nets: nn.Module, setting: Setting) -> None:
    """Write generator and encoder where the recipes that begin with them look for them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in nets.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    shape = {
        "image_size": setting.size,
        "channels": setting.channels,
        "width": setting.width,
        "painted": setting.painted,
        "encoder_channels": setting.encoder_channels,
    }
    (folder / "config.json").write_text(json.dumps(shape, indent=2) + "\n")


def read_nets(folder: Path) -> tuple[StyleGenerator, LatentEncoder]:
    """Return the generator and the encoder that `save` wrote."""
    shape = json.loads((folder / "config.json").read_text())
    channels = shape.pop("encoder_channels")
    generator = StyleGenerator(**shape)
    layers = 1 if generator.painted else generator.layers
    encoder = LatentEncoder(generator.image_size, layers, generator.width, channels)
    nets = nn.ModuleDict({"generator": generator, "encoder": encoder})
    nets.load_state_dict(load_file(folder / "model.safetensors"))
    return generator, encoder


@torch.no_grad()
def fit_mapping(nets: nn.ModuleDict, faces: Tensor) -> None:
    """Fit what random draws become latents by, to the latents of (N, 1, S, S) uint8 faces."""
    generator, encoder = nets["generator"], nets["encoder"]
    assert isinstance(generator, StyleGenerator)
    parts = (hide_background(part.float() / 255) for part in faces.split(256))
    generator.fit_mapping(torch.cat([encode(generator, encoder, part) for part in parts]))


@torch.inference_mode()
def draw_sheet(nets: nn.ModuleDict, held: Tensor, sheet: Path) -> float:
    """Write a sheet of real faces, reconstructions and random draws; return the mean L1."""
    generator, encoder = nets["generator"], nets["encoder"]
    assert isinstance(generator, StyleGenerator)
    faces = hide_background(held.float() / 255)
    again = generator.synthesis(encode(generator, encoder, faces)).clamp(0, 1)
    z = torch.randn(32, generator.width, generator=torch.Generator().manual_seed(0))
    drawn = generator.synthesis(generator.mapping(z.to(faces.device))).clamp(0, 1)
    pairs = torch.stack(
        [faces.view(-1, 16, *faces.shape[1:]), again.view(-1, 16, *again.shape[1:])], 1
    )
    save_image(torch.cat([pairs.flatten(0, 2), drawn]), sheet, nrow=16, padding=1)
    return float((again - faces).abs().mean())


def main(
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    config: Annotated[Path, typer.Option(help="YAML: see recipes/latent.")],
    out: Annotated[Path, typer.Option(help="Folder of the generator.")],
    classifier: Annotated[
        Path | None, typer.Option(help="Folder of recipes.fer_classifier.train.")
    ] = None,
    half: Annotated[int | None, typer.Option(min=0, max=1)] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As options.l1=5; several.")
    ] = None,
    work: Path = Path("work/generator"),
    minutes: Annotated[float, typer.Option(help="Stop after so long; 0: when done.")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    run_options = RunOptions(out, work, torch.device(device), minutes)
    on = run_options.device
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(setting.seed)
    faces = real_faces(work, sets, half, setting.size).to(on)
    held, faces = faces[:HELD_OUT], faces[HELD_OUT:]
    if not len(faces):
        raise ValueError(
            f"{len(held)} faces in {sets}, of which {HELD_OUT} are held out: give larger sets"
        )
    generator = StyleGenerator(setting.size, setting.channels, setting.width, setting.painted)
    layers = 1 if setting.painted else generator.layers
    encoder = LatentEncoder(setting.size, layers, setting.width, setting.encoder_channels)
    if setting.painted and not (work / "state.pt").is_file():
        points = landmarks_of(work, sets, half, setting.size)[HELD_OUT:]
        off = begin_with_pictures(generator, encoder, faces, points, setting.shape_steps)
        print(f"shapes are off by {off:.2f} pixels", flush=True)
    net = load_fer_classifier(classifier).to(on) if classifier is not None else None
    trainer = Trainer(
        generator,
        encoder,
        setting.channels,
        setting.options,
        setting.steps,
        (lambda x: net(see(resize(x, [SIZE, SIZE])))) if net is not None else None,
        on,
    )
    nets = trainer.average
    assert isinstance(nets, nn.ModuleDict)

    def step() -> dict[str, float]:
        rows = torch.randint(len(faces), (setting.batch,), device=on)
        batch = faces[rows].float() / 255
        mirror = torch.rand(len(batch), 1, 1, 1, device=on) < 0.5
        return trainer.step(torch.where(mirror, batch.flip(3), batch))

    def report(done: int) -> dict[str, float]:
        fit_mapping(nets, faces[:MAPPED])
        save(out, nets, setting)
        return {"held l1": draw_sheet(nets, held, run_options.sheet(done))}

    print(f"{len(faces)} faces", flush=True)
    run(
        trainer,
        step,
        report,
        run_options,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
    )


if __name__ == "__main__":
    typer.run(main)
