"""The command `expraug`: parses and prints; what it calls, users can call as well."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expraug.cli.cache import app as cache_app
from expraug.cli.console import parse_bytes, print_table, reported, size_of

if TYPE_CHECKING:
    from expraug.expand import Report

# torch and rich are imported inside the commands, so that `--help` answers at once

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Facial-expression augmentation: the same person with another expression.",
)
app.add_typer(cache_app, name="cache")


class Faces(str, Enum):
    detect = "detect"
    crop = "crop"


class Format(str, Enum):
    png = "png"
    jpeg = "jpeg"
    webp = "webp"


class Write(str, Enum):
    folder = "folder"
    webdataset = "webdataset"
    parquet = "parquet"


class EngineName(str, Enum):
    local = "local"
    ray = "ray"


SynthesizerOption = Annotated[
    str,
    typer.Option(
        help="Name (see `expraug list`), folder, or owner/name@commit on the hub; auto: transfer "
        "where its landmarks can be had, else unet_cgan."
    ),
]
FacesOption = Annotated[
    Faces, typer.Option(help="Photographs, or images that are face crops already.")
]
SchemeOption = Annotated[
    str | None,
    typer.Option(
        help="What the classes mean, where their names are no expression words: fer2013, raf-db, "
        "affectnet-7, affectnet-8, ck+, kdef, jaffe, or pairs like 0=angry,1=happy,2=none."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, ...")]
EngineOption = Annotated[
    EngineName, typer.Option(help="This machine, or actors of Ray Data (expraug[ray]).")
]
MaxPixelsOption = Annotated[int, typer.Option(min=1, help="Larger images are skipped.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from expraug import __version__

        typer.echo(f"expraug {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command("expand")
def expand_command(
    source: Annotated[
        Path, typer.Argument(help="Folder with one sub-folder a class, or parquet file.")
    ],
    dest: Annotated[Path, typer.Argument(help="Folder of the expanded set.")],
    synthesizer: SynthesizerOption = "auto",
    targets: Annotated[
        str, typer.Option(help="Expressions to make, as happy,sad; all: what can be made.")
    ] = "all",
    intensity: Annotated[
        str | None, typer.Option(help="In (0, 1]; several as 0.5,1.0. Default: 1.0.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Instead: this many frames of a clip for each target, frame k of N at intensity "
            "k/N.",
        ),
    ] = None,
    variants: Annotated[int, typer.Option(min=1, help="For each target and intensity.")] = 1,
    balance: Annotated[
        bool, typer.Option("--balance", help="Fill each class up to the size of the largest.")
    ] = False,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Synthetic faces of each class at most.")
    ] = None,
    max_per_source: Annotated[
        int | None, typer.Option(min=1, help="Synthetic faces of each source at most.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides which variants are taken, and which sources.")
    ] = 0,
    device: DeviceOption = "cpu",
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep synthetic faces here for next time.")
    ] = None,
    gate: Annotated[
        bool | None,
        typer.Option(
            "--gate/--no-gate",
            help="Reject faces that are no longer the same person. Default: if the weights for "
            "it can be had.",
        ),
    ] = None,
    faces: FacesOption = Faces.detect,
    write: Annotated[
        Write, typer.Option(help="Class folders, tar shards, or parquet files for `datasets`.")
    ] = Write.folder,
    image_format: Annotated[
        Format, typer.Option("--format", help="Of the synthetic faces; png and webp lose nothing.")
    ] = Format.png,
    scheme: SchemeOption = None,
    with_originals: Annotated[
        bool, typer.Option("--with-originals", help="Copy the originals along.")
    ] = False,
    max_pixels: MaxPixelsOption = 64_000_000,
    max_file_size: Annotated[
        str, typer.Option(help="Larger image files are skipped, as 500M or 2G.")
    ] = "268435456",
    license: Annotated[
        str | None,
        typer.Option(help="Of the source set, as cc-by-4.0; for the data card."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run was interrupted.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do the I-th of N shares, counted from 0, of one set."),
    ] = None,
    engine: EngineOption = EngineName.local,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, or Ray actors. Default: 1; what the cluster has."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster. Default: RAY_ADDRESS, or a local one.")
    ] = None,
    chunk_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sources that are done or not done as one, and that one tar or parquet file "
            "holds. Default: 64 in folders, else 512.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Faces a pass. Default: 64, or 8 on the CPU.")
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that decode, in each process. Default: by the cores."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made, and make nothing.")
    ] = False,
) -> None:
    """Make the synthetic faces of a whole set: images by class, a manifest and a data card."""
    with reported():
        from expraug.expand import expand

        report = expand(
            source,
            dest,
            synthesizer=_told(synthesizer),
            targets=None if targets == "all" else targets.split(","),
            intensity=None if intensity is None else [float(i) for i in intensity.split(",")],
            frames=frames,
            variants=variants,
            balance=balance,
            per_class=per_class,
            max_per_source=max_per_source,
            seed=seed,
            scheme=scheme,
            faces=faces.value,
            gate="auto" if gate is None else "identity" if gate else None,
            cache=cache,
            device=device,
            batch_size=batch_size,
            num_workers=num_workers,
            write=write.value,
            image_format=image_format.value,
            with_originals=with_originals,
            max_pixels=max_pixels,
            max_bytes=parse_bytes(max_file_size),
            license=license,
            chunk_size=chunk_size,
            resume=resume,
            shard=shard,
            engine=engine.value,
            processes=processes,
            ray_address=ray_address,
            dry_run=dry_run,
            progress=True,
        )
        if dry_run:
            _print_plan(report)
        else:
            _print_report(report)


@app.command("preview")
def preview_command(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with one sub-folder a class, or parquet file; with --clip, an image too."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(help="Picture to write, as sheet.png; with --clip, .mp4, .gif or .png."),
    ],
    synthesizer: SynthesizerOption = "auto",
    faces_shown: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 8,
    intensity: Annotated[float | None, typer.Option(help="In (0, 1]. Default: 1.0.")] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="TARGETS",
            help="Show faces in motion: happy, or in a sheet happy,sad or all. An image gives its "
            "own clip, a set an animated sheet.",
        ),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="Of a clip. Default: 16.")] = None,
    fps: Annotated[float, typer.Option(help="Frames of a clip a second.")] = 15.0,
    shows: Annotated[
        str | None,
        typer.Option(help="What the face of an image shows, which some synthesizers must know."),
    ] = None,
    faces: FacesOption = Faces.detect,
    scheme: SchemeOption = None,
    device: DeviceOption = "cpu",
    max_pixels: MaxPixelsOption = 64_000_000,
) -> None:
    """Write a contact sheet: sources, and what the synthesizer makes of them, still or moving."""
    with reported():
        from expraug.expand import preview, preview_clip

        if clip is None and (frames is not None or shows is not None):
            raise ValueError("--frames and --shows are for clips: add --clip happy, or --clip all")
        if clip is not None and intensity is not None:
            raise ValueError("give --intensity or --clip, not both: a clip rises to full intensity")
        name = _told(synthesizer)
        common: dict[str, Any] = {
            "synthesizer": name,
            "faces_shown": faces_shown,
            "scheme": scheme,
            "faces": faces.value,
            "device": device,
            "max_pixels": max_pixels,
        }
        if clip is None:
            count = preview(
                source, out, intensity=1.0 if intensity is None else intensity, **common
            )
        else:
            targets = None if clip == "all" else clip.split(",")
            count = preview_clip(
                source, out, targets, frames=frames or 16, fps=fps, shows=shows, **common
            )
        typer.echo(f"{out}: {count} face{'s' if count > 1 else ''}")


@app.command("evaluate")
def evaluate_command(
    data: Annotated[
        list[Path], typer.Option(help="Labelled set, a folder of classes or a parquet file; again.")
    ],
    synthesizer: SynthesizerOption = "auto",
    reference: Annotated[
        Path | None,
        typer.Option(help="Real faces for classes of which the data has fewer than 10."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, validation or train people, where named; or all.")
    ] = "test",
    identity: Annotated[str | None, typer.Option(help="facenet, or dlib:PATH.")] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a classifier; else the embedded one."),
    ] = None,
    alignment: FacesOption = Faces.crop,
    reference_alignment: FacesOption = Faces.crop,
    scheme: SchemeOption = None,
    subgroups: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Columns image, subgroup: kinds to report by themselves."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Faces of each expression at most.")] = 300,
    device: DeviceOption = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 32,
    json: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write the figures here.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the report here.")] = None,
) -> None:
    """Measure a synthesizer on people that nothing was trained on."""
    with reported():
        from rich.console import Console

        from expraug.evaluate import evaluate, progress_bar

        with progress_bar() as progress:
            evaluation = evaluate(
                synthesizer,
                data,
                reference=reference,
                split=split,
                alignment=alignment.value,
                reference_alignment=reference_alignment.value,
                scheme=scheme,
                classifier=classifier,
                identity=identity,
                subgroups=subgroups,
                limit=limit,
                batch_size=batch_size,
                device=device,
                progress=progress,
            )
        if json is not None:
            evaluation.to_json(json)
        if html is not None:
            evaluation.to_html(html)
        console = Console()
        # a file or a pipe has no width of its own
        Console(width=None if console.is_terminal else 120).print(evaluation.table())
        if evaluation.stopped:
            raise typer.Exit(130)


@app.command("list")
def list_command() -> None:
    """List the synthesizers."""
    with reported():
        from expraug.synthesizer import create_synthesizer, list_synthesizers

        embedded = list_synthesizers(pretrained=True)
        rows = []
        for name in list_synthesizers():
            if name not in embedded:
                rows.append((name, "", "", "", "", "no"))
                continue
            model = create_synthesizer(name)
            tensors = list(model.state_dict().values())
            made = ", ".join(map(str, model.expressions))
            parameters = sum(t.numel() for t in tensors)
            size = sum(t.numel() * t.element_size() for t in tensors)
            rows.append(
                (
                    name,
                    made,
                    f"{model.image_size} px",
                    f"{parameters:,}",
                    size_of(size),
                    "yes",
                )
            )
        columns = ("synthesizer", "makes", "faces", "parameters", "in memory", "embedded")
        print_table(columns, rows)


def _print_plan(report: Report) -> None:
    _print_classes(report, "to make", report.planned)
    for reason, count in sorted(report.skipped.items()):
        typer.echo(f"{count:,} sources of which nothing is made: {reason}")
    typer.echo("Files that turn out to be damaged, or to hold no face, will make it fewer.")


def _told(synthesizer: str) -> str:
    """Return the name that "auto" stands for, and say it."""
    from expraug.synthesizer import AUTO, resolve_name

    name = resolve_name(synthesizer)
    if synthesizer == AUTO:
        typer.echo(f"synthesizer: {name}")
    return name


def _print_report(report: Report) -> None:
    rows = [("made", report.made), ("from cache", report.cached)]
    rows += [(f"skipped: {reason}", count) for reason, count in sorted(report.skipped.items())]
    print_table(("faces", "number"), [(name, f"{n:,}") for name, n in rows])
    _print_classes(report, "synthetic", report.synthetic)
    typer.echo(f"identity gate: {report.gate}")
    if report.complete:
        typer.echo(f"manifest: {report.manifest}")
    else:
        typer.echo("this shard is done; the set is complete when all of them are")


def _print_classes(report: Report, title: str, made: Mapping[str, int]) -> None:
    names = sorted(report.sources.keys() | made.keys())
    columns: list[Mapping[str, int]] = [report.sources, report.originals, made]
    counts = [[column.get(name, 0) for column in columns] for name in names]
    table = [
        (name, *(f"{n:,}" for n in (before, original, new, original + new)))
        for name, (before, original, new) in zip(names, counts, strict=True)
    ]
    print_table(("class", "source", "copied", title, "in the expanded set"), table)


if __name__ == "__main__":
    app()
