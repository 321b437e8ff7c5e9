"""`expraug video`: one face of a video, with another expression."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expraug.cli.console import say
from expraug.cli.options import with_options
from expraug.expand.options import ExpandOptions

if TYPE_CHECKING:
    from expraug.pipeline import VideoReport

# torch and rich are imported inside the command, so that `--help` answers at once


class VideoAlignment(str, Enum):
    detect = "detect"
    crop = "crop"


@with_options(ExpandOptions, ("synthesizer", "gate", "check_landmarks", "device", "max_pixels"))
def video_command(
    source: Annotated[
        Path,
        typer.Argument(help="Video, as .mp4, .mov, .webm, .gif or .webp; or a folder of frames."),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Video to write: .mp4, which keeps the sound, .gif or .webp; without a suffix, a "
            "new folder of frames."
        ),
    ],
    target: Annotated[str, typer.Option(metavar="NAME", help="What the face is to show.")],
    shows: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it shows on the whole, as neutral; some synthesizers must know.",
        ),
    ] = None,
    intensity: Annotated[float, typer.Option(help="From 0.01 to 1.")] = 1.0,
    onset: Annotated[
        float, typer.Option(min=0, help="Seconds in which the expression comes; 0: it is there.")
    ] = 0.0,
    variant: Annotated[int, typer.Option(min=0, help="Of the synthesizer's.")] = 0,
    face: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of several, the one to change: 0, the largest (default); 1, the next.",
        ),
    ] = None,
    alignment: Annotated[
        VideoAlignment, typer.Option(help="crop: the frames are face crops already.")
    ] = VideoAlignment.detect,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of a folder. Default: 25.")
    ] = None,
    **options: Any,
) -> None:
    """Give one face of a video another expression; whoever it is may talk and move.

    Frames in which that cannot be done stay as they are, and are listed.
    """
    from expraug.pipeline import augment_video
    from expraug.progress import progress_bar

    with progress_bar() as progress:
        report = augment_video(
            source,
            shows,
            target,
            out,
            intensity=intensity,
            onset=onset,
            variant=variant,
            face=face,
            alignment=alignment.value,
            fps=fps,
            progress=progress,
            **options,
        )
    typer.echo(f"{out}: {report.changed:,} of {report.frames:,} frames show {target}")
    for line in _kept(report):
        typer.echo(line)
    if report.silent:
        say("warning:", f"no sound: {report.silent}", "yellow")


def _kept(report: VideoReport) -> list[str]:
    return [
        f"{len(numbers):,} stay as they are, {reason}: {_spans(numbers, report.fps)}"
        for reason, numbers in sorted(report.kept.items())
    ]


def _spans(numbers: Sequence[int], fps: float) -> str:
    """Return when these frames are shown, as "0:01.20 to 0:02.04"."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    told = [" to ".join(dict.fromkeys(_clock(n / fps) for n in span)) for span in spans[:8]]
    return ", ".join(told) + (f" and {len(spans) - 8} more" if len(spans) > 8 else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:05.2f}"
