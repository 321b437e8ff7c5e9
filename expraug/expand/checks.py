"""What is checked before an expansion starts, so that it fails at once or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path

from expraug.datasets.source import FaceSource, open_source
from expraug.datasets.unlabelled import is_image, open_unlabelled
from expraug.errors import ExpraugError, LabelError
from expraug.expand.parts import DestinationError
from expraug.expressions import Expression
from expraug.gate import AllGates, Gate, GateLike, IdentityGate, create_gate


class SourceError(ExpraugError, OSError):
    """The source is no ImageFolder and no parquet file of labelled images."""

    reason = "source"


def open_face_set(
    source: str | os.PathLike[str], shows: Expression | str | None = None
) -> FaceSource:
    """Open a source set.

    Args:
        source: as `open_source` takes it; with `shows` as `open_unlabelled` takes it.
        shows: what all faces show, where the source does not say; None: its classes say.

    Raises:
        SourceError: there is no such set; also for images without classes and without `shows`.
    """
    path = Path(source)
    try:
        if shows is not None:
            return open_unlabelled(path, shows)
        if is_image(path):
            raise SourceError(f"{path} is one image: say what its face shows, as {SHOWS}")
        return open_source(os.fspath(source))
    except FileNotFoundError as error:
        some = path.is_dir() and any(is_image(file) for file in path.iterdir())
        also = f", but images; say what their faces show, as {SHOWS}" if some else ""
        raise SourceError(f"{error}{also}") from error
    except LabelError:
        raise
    except (OSError, ValueError) as error:
        raise SourceError(str(error)) from error


SHOWS = "--shows neutral (shows='neutral')"


def check_destination(source: Path, dest: Path) -> None:
    """Raise DestinationError if the destination is a file or lies in the source set."""
    if dest.exists() and not dest.is_dir():
        raise DestinationError(f"{dest} is a file; give a folder")
    inside, outside = dest.resolve(), source.resolve()
    if outside.is_dir() and (inside == outside or outside in inside.parents):
        raise DestinationError(
            f"{dest} lies in the source set {source}, where synthetic faces would pass for real "
            f"ones; give a folder outside it"
        )


def choose_gate(gate: GateLike) -> tuple[Gate | None, str]:
    """Return the gate to use, its weights loaded, and a line that says which.

    Raises:
        InvalidWeightsError: the weights of the identity gate are damaged.
        ValueError: no such gate.
    """
    chosen = create_gate(gate)
    if chosen is None:
        return None, "off"
    for one in chosen.gates if isinstance(chosen, AllGates) else [chosen]:
        if isinstance(gate, str) and isinstance(one, IdentityGate):
            _ = one.encoder  # what it lacks is told before the work starts
    return chosen, _described(chosen)


def _described(gate: Gate) -> str:
    threshold = getattr(gate, "threshold", None)
    return gate.fingerprint + ("" if threshold is None else f", threshold {threshold:.2f}")


def parse_shard(shard: str | tuple[int, int] | None) -> tuple[int, int]:
    """Return number and count of a shard, (0, 1) for None.

    Raises:
        ValueError: not "i/n" with 0 <= i < n.
    """
    if shard is None:
        return 0, 1
    if isinstance(shard, str):
        match = re.fullmatch(r"(\d+)/(\d+)", shard)
        shard = (int(match[1]), int(match[2])) if match else (-1, 0)
    number, count = shard
    if not 0 <= number < count:
        raise ValueError("shard must be i/n, with i from 0 to n - 1: the first of four is 0/4")
    return number, count
