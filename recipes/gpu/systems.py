"""Train `unet_cgan`, `fevgan` and the mouth painter on a lent card, in minutes.

    python -m recipes.gpu.systems pack DATA --pairs PAIRS --classifier NET0 --classifier NET1 \\
        --out .gpu/systems
    python -m recipes.gpu.systems pack DATA --train mouth_painter --out .gpu/systems
    python -m recipes.gpu.systems run --pack .gpu/systems --out OUT --minutes 4.5
    python -m recipes.gpu.systems unpack --pack .gpu/systems --out PAIRS_AS_SENT

`pack` makes all that the card needs into one small folder; `run`, on the card, trains at once what
was packed, or what `--train` names of it: processes that share the card, from the embedded weights
on. OUT gets a zip archive for each: weights, log and last sheet, from the first report on, so that
a run that is killed leaves something. The learning rate follows the time: it has reached its end
when the minutes are over, of which reading the data is part. `unpack` writes the pairs as the card
had them: codes are to be chosen among theirs, by `recipes.unet_cgan.choose_codes` and
`recipes.fevgan.choose_codes`.

DATA and `--real-faces` are as `recipes.real_faces` takes them. All of it runs on a CPU too:
`run --device cpu --tiny`.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from expraug.networks.fer_classifier import load_fer_classifier
from expraug.networks.identity import create_identity_encoder
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.fevgan import FEVGANSynthesizer
from recipes.fevgan import learn as fevgan
from recipes.fevgan.clips import real_faces
from recipes.gpu.mouths import packed_mouths, unpack_mouths
from recipes.mouth_painter import learn as mouth_painter
from recipes.pairs.made import Pairs
from recipes.pairs.packed import pack_faces, pack_pairs, unpack_faces, unpack_pairs
from recipes.training.loop import RunOptions
from recipes.unet_cgan import learn as unet_cgan
from recipes.unet_cgan.data import Singles

app = typer.Typer(add_completion=False)
SYSTEMS = {"unet_cgan": unet_cgan, "fevgan": fevgan, "mouth_painter": mouth_painter}
OF_PAIRS = ("unet_cgan", "fevgan")
"""What learns from pairs."""
PACK, SETTINGS, SINGLES, REAL = "systems.xz", "settings.json", "singles.npz", "real.npz"
MOUTHS = "mouths.npz"
CONFIG = "gpu.yaml"
WEIGHTS = ("model.safetensors", "config.json")
REPOSITORY = Path(__file__).parents[2]
REAL_FACES = 400
"""Of each expression that the discriminator of `fevgan` is shown, at most."""
LAST_REPORT = 15.0
"""Seconds that are left of the minutes when training ends, for the last report."""
TINY = {
    "unet_cgan": {"pairs": 4, "unpaired": 2},
    "fevgan": {"batch": 2},
    "mouth_painter": {"batch": 4},
}
TINY_PAIRS = 400

Real = Annotated[Path, typer.Option(help="Of recipes.real_faces.")]
Folder = Annotated[Path, typer.Option("--pack", help="Folder that `pack` wrote.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
Train = Annotated[
    list[str] | None, typer.Option(help="unet_cgan, fevgan or mouth_painter; several.")
]


@app.command()
def pack(
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    pairs: Annotated[Path | None, typer.Option(help="Of recipes.pairs.make_pairs.")] = None,
    classifier: Annotated[
        list[Path] | None, typer.Option(help="Of recipes.fer_classifier.train.")
    ] = None,
    out: Out = Path(".gpu/systems"),
    real_work: Annotated[Path, typer.Option("--real-faces")] = Path("work/real_faces"),
    singles: Annotated[int, typer.Option(help="Single faces, at most.")] = 4000,
    quality: Annotated[int, typer.Option(help="Of the faces, as WebP.")] = 60,
    mouths: Annotated[int, typer.Option(help="Open mouths, at most.")] = 12000,
    train: Train = None,
) -> None:
    """Make all that the card needs into one folder; without --train, for all."""
    # the card has no OmegaConf
    from recipes.training.options import load_settings

    names = chosen(train, SYSTEMS)
    with_pairs = any(name in OF_PAIRS for name in names)
    if with_pairs and (pairs is None or not classifier):
        raise typer.BadParameter(f"{' and '.join(OF_PAIRS)} need --pairs and --classifier")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    settings = {
        name: asdict(load_settings(SYSTEMS[name].Setting, REPOSITORY / "recipes" / name / CONFIG))
        for name in names
    }
    (out / SETTINGS).write_text(json.dumps(settings, indent=1))
    arrays: dict[str, Any] = {}
    if with_pairs and pairs is not None:
        for number, folder in enumerate(classifier or ()):
            shutil.copytree(folder, out / f"net{number}")
        arrays |= _packed_pairs(data, real_work, Pairs.load(pairs), singles, quality)
    if "mouth_painter" in names:
        packed = packed_mouths(data, real_work, mouths)
        arrays |= {f"mouth {k}": v for k, v in packed.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    (out / PACK).write_bytes(lzma.compress(file.getbuffer(), preset=6))
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    counted = {"pairs": "source", "single faces": "single place", "open mouths": "mouth origin"}
    told = [f"{len(arrays[of])} {what}" for what, of in counted.items() if of in arrays]
    print(f"{', '.join(told)}: {size / 2**20:.1f} MiB")


def chosen(train: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """Return what is to be trained, of what is known, in order.

    Raises:
        typer.BadParameter: something else is named.
    """
    if unknown := set(train or ()) - set(known):
        raise typer.BadParameter(
            f"no {', '.join(sorted(unknown))} here; there is {', '.join(known)}"
        )
    return [name for name in known if not train or name in train]


def _packed_pairs(
    data: Path, real_work: Path, made: Pairs, singles: int, quality: int
) -> dict[str, Any]:
    """Return pairs, single faces and real ones as arrays that compress well."""
    arrays: dict[str, Any] = dict(pack_pairs(made, quality))
    alone = Singles.read(data, real_work, singles, 0)
    place, new = _among(alone.faces.numpy(), np.asarray(made.face))
    arrays |= {f"single {k}": v for k, v in pack_faces(new, quality).items()}
    arrays |= {
        "single place": place.astype(np.int32),
        "single lips": alone.lips.numpy().astype(np.float16),
        "single category": alone.category.numpy().astype(np.int8),
        "single weight": alone.weight.numpy(),
    }
    random = np.random.default_rng(0)
    for number, faces in enumerate(real_faces(data, real_work, fevgan.CATEGORIES)):
        few = random.permutation(len(faces))[:REAL_FACES]
        if len(few):
            found = pack_faces(faces.numpy()[few], quality)
            arrays |= {f"real {number} {k}": v for k, v in found.items()}
    return arrays


def _among(faces: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where faces are among those known and, behind these, the new ones; and the new."""
    place = {face.tobytes(): number for number, face in enumerate(known)}
    found: list[int] = []
    new: list[np.ndarray] = []
    for face in faces:
        key = face.tobytes()
        if key not in place:
            place[key] = len(known) + len(new)
            new.append(face)
        found.append(place[key])
    return np.array(found), np.array(new, np.uint8).reshape(-1, *faces.shape[1:])


@app.command()
def unpack(pack: Folder, out: Out, limit: int | None = None) -> None:
    """Write the pairs, single and real faces, and open mouths, as the card has them.

    Args:
        pack: folder that `pack` wrote.
        out: folder of `Pairs`, with the others beside them.
        limit: only so many pairs, and as many single faces.
    """
    with np.load(io.BytesIO(lzma.decompress((pack / PACK).read_bytes()))) as kept:
        arrays: dict[str, Any] = {name: kept[name] for name in kept.files}
    out.mkdir(parents=True, exist_ok=True)
    if "mouth origin" in arrays:
        mouths = {k.removeprefix("mouth "): v for k, v in arrays.items() if k.startswith("mouth ")}
        np.savez(out / MOUTHS, **mouths)
    if "source" in arrays:
        _write_pairs(arrays, out, limit)


def _write_pairs(arrays: dict[str, Any], out: Path, limit: int | None) -> None:
    if limit is not None:
        some = np.linspace(0, len(arrays["source"]) - 1, limit).astype(int)
        for name in ("flow", "lightening"):
            arrays[name] = arrays[name][..., some]
        for name in ("lips", "moves", "interior", "probability", "source", "target"):
            arrays[name] = arrays[name][some]
    pairs = unpack_pairs(arrays)
    pairs.save(out)
    new = {k: arrays[f"single {k}"] for k in ("stream", "length")}
    known = (
        pairs.face if not len(new["length"]) else np.concatenate([pairs.face, unpack_faces(new)])
    )
    few = slice(limit)
    np.savez(
        out / SINGLES,
        faces=known[arrays["single place"][few]],
        lips=arrays["single lips"][few].astype(np.float32),
        category=arrays["single category"][few].astype(np.int64),
        weight=arrays["single weight"][few],
    )
    none = np.zeros((0, 1, 64, 64), np.uint8)
    real: dict[str, Any] = {
        str(number): unpack_faces({k: arrays[f"real {number} {k}"] for k in ("stream", "length")})
        if f"real {number} stream" in arrays
        else none
        for number in range(len(fevgan.CATEGORIES))
    }
    np.savez(out / REAL, **real)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="One of those packed.")],
    pack: Folder,
    unpacked: Annotated[Path, typer.Option(help="Folder that `unpack` wrote.")],
    out: Out,
    minutes: Annotated[float, typer.Option()],
    since: Annotated[float, typer.Option()],
    device: str = "cuda",
    tiny: bool = False,
) -> None:
    """Train one of them, as `run` has it done.

    Args:
        name: of what is trained.
        pack, unpacked: folders of what is learned from.
        out: gets a folder for it, with weights, log and sheets.
        minutes: of the whole run.
        since: when they began, by `time.monotonic`.
        device: where.
        tiny: with batches that a CPU can bear.
    """
    setting = settings_of(name, pack)
    if tiny:
        setting = replace(setting, **TINY[name])
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    start = REPOSITORY / "expraug" / "weights" / name
    work = out / name
    work.mkdir(parents=True, exist_ok=True)
    run_options = RunOptions(
        work, work, torch.device(device), minutes - LAST_REPORT / 60, finish=True, since=since
    )
    if name == "mouth_painter":
        with np.load(unpacked / MOUTHS) as kept:
            mouths = unpack_mouths({k: kept[k] for k in kept.files})
        mouth_painter.learn(setting, mouths, run_options, start=start)
        return
    pairs = Pairs.load(unpacked)
    nets = [load_fer_classifier(folder) for folder in sorted(pack.glob("net*"))]
    if name == "unet_cgan":
        with np.load(unpacked / SINGLES) as kept:
            singles = Singles(*(torch.from_numpy(kept[f.name]) for f in fields(Singles)))
        encoder = create_identity_encoder("dlib")
        unet_cgan.learn(setting, pairs, singles, nets, encoder, run_options, start=start)
        return
    first = Synthesizer.from_pretrained(start)
    assert isinstance(first, FEVGANSynthesizer)
    with np.load(unpacked / REAL) as kept:
        real = [torch.from_numpy(kept[str(n)]) for n in range(len(fevgan.CATEGORIES))]
    fevgan.learn(setting, pairs, real, nets, first, run_options)


def settings_of(name: str, pack: Path) -> Any:
    """Return the settings of a system, as they were when the pack was made."""
    kept = json.loads((pack / SETTINGS).read_text())[name]
    of = SYSTEMS[name]
    if "channels" in kept:
        kept["channels"] = tuple(kept["channels"])
    return of.Setting(**{**kept, "options": of.Options(**kept["options"])})


@app.command()
def run(
    pack: Folder,
    out: Out,
    minutes: Annotated[float, typer.Option(help="In all.")] = 4.5,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    tiny: Annotated[bool, typer.Option(help="Few pairs and small batches.")] = False,
    train: Train = None,
) -> None:
    """Train what was packed at once, and leave an archive of each."""
    start = time.monotonic()
    names = chosen(train, json.loads((pack / SETTINGS).read_text()))
    with tempfile.TemporaryDirectory() as folder:
        unpack(pack, Path(folder), TINY_PAIRS if tiny else None)
        print(f"unpacked after {time.monotonic() - start:.0f} s", flush=True)
        made = Path(folder, "made")
        shared = ["--pack", pack, "--unpacked", folder, "--out", made, "--device", device]
        shared += ["--minutes", minutes, "--since", start, *(["--tiny"] if tiny else [])]
        command = [sys.executable, "-m", "recipes.gpu.systems", "train"]
        threads = str(max(1, (os.cpu_count() or 1) // len(names)))
        trainings = {
            name: subprocess.Popen(
                [*command, name, *map(str, shared)],
                env={**os.environ, "OMP_NUM_THREADS": threads},
                cwd=REPOSITORY,
            )
            for name in names
        }
        while any(process.poll() is None for process in trainings.values()):
            time.sleep(0.5)
            keep(made, out)
        keep(made, out)
        failed = [name for name, process in trainings.items() if process.returncode]
    if failed:
        raise SystemExit(f"{' and '.join(failed)} failed; what they had to say stands above")


def keep(made: Path, out: Path) -> None:
    """Write an archive of each training that has reported since the last one was written.

    Args:
        made: holds their folders.
        out: gets NAME.zip.
    """
    out.mkdir(parents=True, exist_ok=True)
    for log in made.glob("*/log.csv"):  # whose line comes last in a report
        archive = out / f"{log.parent.name}.zip"
        if archive.is_file() and archive.stat().st_mtime >= log.stat().st_mtime:
            continue
        files = [log, *(log.parent / name for name in WEIGHTS), max(log.parent.glob("*.png"))]
        part = archive.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as whole:
            for file in files:
                whole.write(file, file.name)
        part.replace(archive)


if __name__ == "__main__":
    app()
