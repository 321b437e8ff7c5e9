"""The command `expraug`: parses and prints; what it calls, users can call as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expraug.cli.cache import app as cache_app
from expraug.cli.config import read_config
from expraug.cli.console import print_table, reported, say
from expraug.cli.options import with_options
from expraug.cli.video import video_command
from expraug.expand.options import ExpandOptions
from expraug.units import size_of

if TYPE_CHECKING:
    from expraug.expand import Report

# torch and rich are imported inside the commands, so that `--help` answers at once

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it would take "[ray]" for markup and ":train:" for an emoji
    help="Facial-expression augmentation: the same person with another expression.",
)
app.add_typer(cache_app, name="cache")


class Alignment(str, Enum):
    crop = "crop"
    detect = "detect"


SOURCE = (
    "Folder with one sub-folder per class; parquet file with an image and a label column; or a "
    "published data set as its owners distribute it, NAME:FOLDER or NAME:SPLIT:FOLDER, as "
    "raf-db:train:FOLDER (`expraug list` shows the names)."
)
UNLABELLED = "With --shows, an image, or a folder of images without classes."


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
@with_options(ExpandOptions)
def expand_command(
    source: Annotated[Path, typer.Argument(help=f"{SOURCE} {UNLABELLED}")],
    dest: Annotated[Path, typer.Argument(help="Folder of the expanded set.")],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=read_config,
            help="Take options from this YAML or TOML file, by their names, as per-class: 500. "
            "Those on the command line count before it.",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Make the synthetic faces of a whole set: images by class, a manifest and a data card.

    Interrupted work goes on when the same command is run again.
    """
    from expraug.expand import expand

    options["synthesizer"] = _told(options["synthesizer"])
    try:
        report = expand(source, dest, **options, progress=True)
    except KeyboardInterrupt:
        say("interrupted;", "what is done is kept, and the same command goes on", "red")
        raise typer.Exit(130) from None
    if options["dry_run"]:
        _print_plan(report)
    else:
        _print_report(report)


@app.command("preview")
@with_options(
    ExpandOptions,
    ("synthesizer", "alignment", "scheme", "shows", "check_landmarks", "device", "max_pixels"),
)
def preview_command(
    source: Annotated[Path, typer.Argument(help=f"{SOURCE} {UNLABELLED}")],
    out: Annotated[
        Path,
        typer.Argument(
            help="Picture to write, as sheet.png; with --clip, .mp4, .gif, .webp or .png."
        ),
    ],
    faces_shown: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 8,
    intensity: Annotated[float | None, typer.Option(help="From 0.01 to 1. Default: 1.0.")] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="TARGETS",
            help="Show faces in motion: happy, or in a sheet happy,sad or all. An image gives its "
            "own clip, a set an animated sheet.",
        ),
    ] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="Of a clip. Default: 16.")] = None,
    fps: Annotated[float, typer.Option(help="Frames of a clip per second.")] = 15.0,
    face: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of several, the one that moves: 0, the largest (default); 1, the next.",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Write a contact sheet: sources, and what the synthesizer makes of them, still or moving."""
    from expraug.expand import preview, preview_clip

    if clip is None and any(given is not None for given in (frames, face)):
        raise ValueError("--frames and --face are for clips: add --clip happy, or --clip all")
    if clip is not None and intensity is not None:
        raise ValueError("give --intensity or --clip, not both: a clip rises to full intensity")
    options |= {"synthesizer": _told(options["synthesizer"]), "faces_shown": faces_shown}
    if clip is None:
        count = preview(source, out, intensity=1.0 if intensity is None else intensity, **options)
    else:
        targets = None if clip == "all" else clip.split(",")
        count = preview_clip(
            source, out, targets, frames=frames or 16, fps=fps, face=face, **options
        )
    typer.echo(f"{out}: {count} face{'s' if count > 1 else ''}")


app.command("video")(video_command)


@app.command("review")
def review_command(
    dest: Annotated[
        list[Path], typer.Argument(help="Folder of an expanded set; several of one source set.")
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            help="The source set, as `expand` took it. Without it, sources are shown only where "
            "the originals were copied along."
        ),
    ] = None,
    shows: Annotated[
        str | None, typer.Option(help="As `expand` took it, of a source set without classes.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page. Default: review.html in the first folder."),
    ] = None,
    embed: Annotated[
        bool,
        typer.Option("--embed", help="Put all pictures into the page, so that it can be sent."),
    ] = False,
) -> None:
    """Write an HTML page of the synthetic faces beside their sources, to accept or reject them.

    It exports a list of the rejected ones, for `expraug expand --exclude`.
    """
    with reported():
        from expraug.review import review, review_page

        count = review(dest, out, source=source, shows=shows, embed=embed)
        typer.echo(f"{review_page(dest, out)}: {count:,} faces; open it in a browser")


@app.command("evaluate")
@with_options(ExpandOptions, ("synthesizer", "alignment", "scheme", "device"))
def evaluate_command(
    data: Annotated[list[Path], typer.Option(help=f"{SOURCE} May be given several times.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="Real faces for classes of which the data has fewer than 10."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="test, validation or train people, where named; or all.")
    ] = "test",
    identity: Annotated[
        list[str] | None,
        typer.Option(
            help="dlib, or facenet (107 MB, downloaded). May be given twice. Default: dlib, "
            "and facenet if its weights are on this machine.",
            show_default=False,
        ),
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further FER classifier: a folder of weights, or MODULE:OBJECT. May be given "
            "several times.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this measure. May be given several times."),
    ] = None,
    reference_alignment: Annotated[
        Alignment, typer.Option(help="As --alignment, of the reference.")
    ] = Alignment.crop,
    subgroups: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Columns image, subgroup: kinds to report by themselves."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Faces per expression at most.")] = 300,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces per batch.")] = 32,
    json: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write the figures here.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the report here.")] = None,
    **options: Any,
) -> None:
    """Measure a synthesizer on people that nothing was trained on."""
    from rich.console import Console

    from expraug.evaluate import evaluate, progress_bar
    from expraug.networks.classifiers import EMBEDDED_CLASSIFIERS

    with progress_bar() as progress:
        evaluation = evaluate(
            options.pop("synthesizer"),
            data,
            reference=reference,
            split=split,
            reference_alignment=reference_alignment.value,
            classifiers=(*EMBEDDED_CLASSIFIERS, *(classifier or ())),
            measures=measure,
            identity=identity or None,
            subgroups=subgroups,
            limit=limit,
            batch_size=batch_size,
            progress=progress,
            **options,
        )
    if json is not None:
        evaluation.to_json(json)
    if html is not None:
        evaluation.to_html(html)
    console = Console()
    width = console.width if console.is_terminal else 120  # a file or a pipe has none of its own
    Console(width=width).print(evaluation.table(width))
    if evaluation.stopped:
        raise typer.Exit(130)


@app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List the synthesizers, and the data sets that can be read by name."""
    with reported():
        from expraug.datasets import list_datasets
        from expraug.synthesizer import create_synthesizer, list_synthesizers

        embedded = list_synthesizers(pretrained=True)
        found: list[dict[str, Any]] = []
        for name in list_synthesizers():
            found.append({"name": name, "embedded": name in embedded})
            if name in embedded:
                model = create_synthesizer(name)
                tensors = list(model.state_dict().values())
                found[-1] |= {
                    "expressions": [str(e) for e in model.expressions],
                    "image_size": model.image_size,
                    "variants": model.variants,
                    "parameters": sum(t.numel() for t in tensors),
                    "bytes": sum(t.numel() * t.element_size() for t in tensors),
                }
        if as_json:
            listed = {"synthesizers": found, "data_sets": list_datasets()}
            typer.echo(json.dumps(listed, indent=2))
            return
        rows = [
            (
                one["name"],
                ", ".join(one["expressions"]),
                f"{one['image_size']} px",
                f"{one['parameters']:,}",
                size_of(one["bytes"]),
                "yes",
            )
            if one["embedded"]
            else (one["name"], "", "", "", "", "no")
            for one in found
        ]
        columns = ("synthesizer", "makes", "faces", "parameters", "in memory", "embedded")
        print_table(columns, rows)
        typer.echo(f"data sets, as NAME:FOLDER or NAME:SPLIT:FOLDER: {', '.join(list_datasets())}")


def _print_plan(report: Report) -> None:
    _print_classes(report, "to make", report.planned)
    for reason, count in sorted(report.skipped.items()):
        typer.echo(f"{count:,} sources of which nothing is made: {reason}")
    _print_notes(report)
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
    typer.echo(f"gate: {report.gate}")
    _print_notes(report)
    if report.complete:
        typer.echo(f"manifest: {report.manifest}")
    else:
        typer.echo("this shard is done; the set is complete when all of them are")


def _print_notes(report: Report) -> None:
    for note in report.notes:
        typer.echo(f"note: {note}")


def _print_classes(report: Report, title: str, made: Mapping[str, int]) -> None:
    names = sorted(report.sources.keys() | made.keys())
    columns: list[Mapping[str, int]] = [report.sources, report.originals, made]
    counts = [[column.get(name, 0) for column in columns] for name in names]
    table = [
        (name, *(f"{n:,}" for n in (before, original, new, original + new)))
        for name, (before, original, new) in zip(names, counts, strict=True)
    ]
    print_table(("class", "source", "copied", title, "in the expanded set"), table)
