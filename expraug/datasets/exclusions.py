"""Lists of synthetic faces that someone looked at and rejected."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from expraug.datasets.joint import JointTransform
from expraug.errors import ExpraugError, warn
from expraug.pipeline import SynthesisRequest

Excluded = Mapping[str, frozenset[SynthesisRequest]]
"""What is not made, by origin of the source."""


class ExclusionError(ExpraugError, ValueError):
    """A list of rejected faces that cannot be read."""

    reason = "exclusion"


def read_exclusions(path: str | os.PathLike[str], fingerprint: str) -> dict[str, frozenset[Any]]:
    """Read a list of rejected faces.

    A line is one face, a JSON object: "source", as the manifest of an expanded set has it,
    "synthesizer", its fingerprint, "target", "intensity" and "variant". More is ignored, and so
    are empty lines.

    Args:
        path: the list, as `expraug review` exports it.
        fingerprint: of the synthesizer that is used. A face that another one made, or another
            version of it, is another picture: such lines do not count, and a warning tells how
            many there are.

    Returns:
        The requests that were rejected, by origin of the source.

    Raises:
        ExclusionError: the file cannot be read, or a line, which the message names, is none.
    """
    found: dict[str, set[SynthesisRequest]] = {}
    total = others = 0
    for number, line in enumerate(_lines(Path(path)), 1):
        if not line.strip():
            continue
        try:
            face = json.loads(line)
            source, maker = face["source"], face["synthesizer"]
            request = SynthesisRequest(
                face["target"], float(face["intensity"]), int(face["variant"])
            )
            if not isinstance(source, str) or not isinstance(maker, str):
                raise TypeError("source and synthesizer must be text")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ExclusionError(
                f"{path}, line {number}: not a face as `expraug review` exports it ({error!r:.200})"
            ) from error
        total += 1
        if maker != fingerprint:
            others += 1
            continue
        found.setdefault(source, set()).add(request)
    if others:
        warn(
            f"{path}: {others:,} of {total:,} faces were made by another synthesizer than "
            f"{fingerprint}, or by another version of it, and do not count"
        )
    return {source: frozenset(requests) for source, requests in found.items()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ExclusionError(f"{path}: no list of rejected faces ({error})") from error


def listed_origin(origin: str) -> str:
    """Return an origin as lists and manifests have it: bytes that are no text become "?"."""
    return origin.encode("utf-8", "replace").decode()


def sample_origins(dataset: Any) -> list[str]:
    """Return where each sample of a data set came from, as `expand` calls it.

    Args:
        dataset: torchvision's `ImageFolder`, a `FaceDataset`, or a `Subset` or `JointTransform` of
            one.

    Raises:
        ExclusionError: a data set of another kind.
    """
    if isinstance(dataset, Subset):
        origins = sample_origins(dataset.dataset)
        return [origins[i] for i in dataset.indices]
    if isinstance(dataset, JointTransform):
        return sample_origins(dataset.dataset)
    if hasattr(dataset, "items") and not callable(dataset.items):
        return [listed_origin(item.origin) for item in dataset.items]
    if hasattr(dataset, "samples") and hasattr(dataset, "root"):
        return list(_relative((path for path, *_ in dataset.samples), str(dataset.root)))
    raise ExclusionError(
        f"{type(dataset).__name__} does not tell the file of each sample, which a list of rejected "
        f"faces names: give an ImageFolder or a data set of `open_dataset`"
    )


def _relative(paths: Iterable[str], root: str) -> Iterable[str]:
    prefix = os.path.join(root, "")
    for path in paths:
        inside = path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, root)
        yield listed_origin(inside.replace(os.sep, "/"))
