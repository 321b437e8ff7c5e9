"""What every data set of faces has in common: splits, a torch `Dataset`, a source, `to_hf`."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image
from torchvision.datasets import VisionDataset
from torchvision.datasets.vision import StandardTransform

from expraug.datasets.readers.clip import Clip
from expraug.datasets.readers.layout import (
    MISSING,
    LayoutError,
    Skipped,
    layout_error,
    missing_files,
)
from expraug.datasets.source import FaceItem, ItemSource
from expraug.datasets.split import person_split
from expraug.errors import UnreadableImageError
from expraug.expressions import Expression, LabelScheme

if TYPE_CHECKING:
    import datasets


class FaceDataset(VisionDataset):  # type: ignore[misc]  # torchvision has no types
    """A published data set, read from the layout in which its owners distribute it.

    An item is `(image, label)`: a PIL image and the index of its class in `scheme`. A damaged image
    raises UnreadableImageError when it is asked for, and names itself; `warm` and `expand` count it
    and go on.

    Args:
        root: the data set's folder.
        split: "train", "validation", "test" or "all". It is the owners' split if they made one;
            else `person_split` of the people, so that no one is in two splits. A set that has
            neither can be opened as "all" only.
        missing: what files are that a list names and the folder does not hold: an "error" that
            counts them, or "skip" to leave them out.
        transform, target_transform, transforms: as `torchvision.datasets.VisionDataset` takes them;
            `transforms` changes image and label together, as `RandomExpression` does.

    Attributes:
        items: the images of the split, as `FaceItem`s.
        clips: the sequences of the split, in sets that have them.
        skipped: what was read and gives no labelled face, and why, whatever the split.

    Raises:
        LayoutError: the folder does not hold the set; the message shows what was expected and
            found.
        ValueError: the set has no such split; the message says which it has.
    """

    name: ClassVar[str]
    """How the set is called in messages."""
    layout: ClassVar[str]
    """The layout in which it is distributed, for people."""
    mode: ClassVar[Literal["L", "RGB"]] = "RGB"
    """Mode of the PIL images; a set that is all grey has "L"."""
    scheme: LabelScheme
    """Its classes, and what they mean."""

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        missing: Literal["error", "skip"] = "error",
        transform: Callable[..., Any] | None = None,
        target_transform: Callable[..., Any] | None = None,
        transforms: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(str(root), transforms, transform, target_transform)
        self.root: Path = Path(root).expanduser()
        self.split = split
        self.items: list[FaceItem] = []
        self.clips: list[Clip] = []
        self.skipped: list[Skipped] = []
        self._list()
        self._check_missing(missing)
        self._keep(split)
        self._index = self.class_to_idx

    @abstractmethod
    def list_items(self) -> Iterator[FaceItem | Clip | Skipped]:
        """Yield all that the set has, in all splits, in an order that is the same everywhere.

        Raises:
            LayoutError: the folder does not hold the set.
        """

    def _list(self) -> None:
        neutral = Expression.NEUTRAL
        try:
            for found in self.list_items():
                if isinstance(found, Skipped):
                    self.skipped.append(found)
                elif isinstance(found, Clip):
                    self.clips.append(found)
                    self.items.extend(found.faces(self.scheme.class_name(neutral)))
                else:
                    self.items.append(found)
        except LayoutError:
            raise
        except OSError as error:  # a folder that may not be read, a file in a folder's place
            raise self.layout_error(f"cannot be read ({error})") from error
        if not self.items:
            why = ", ".join(f"{n} {reason}" for reason, n in self._reasons().items())
            raise self.layout_error("no labelled face in it" + (f" ({why})" if why else ""))

    def _check_missing(self, missing: Literal["error", "skip"]) -> None:
        if missing not in ("error", "skip"):
            raise ValueError(f'missing must be "error" or "skip", not {missing!r}')
        gone = missing_files(self.items)
        self.skipped += [Skipped(self.items[i].origin, MISSING) for i in sorted(gone)]
        names = [origin for origin, reason in self.skipped if reason == MISSING]
        total = len(self.items) - len(gone) + len(names)
        if names and (missing == "error" or len(names) == total):
            some = ", ".join(names[:5]) + (", …" if names[5:] else "")
            raise self.layout_error(
                f"{len(names)} of the {total} files that it lists are missing: {some}. "
                f'Unpack every archive, or leave them out with missing="skip"'
            )
        self.items = [item for i, item in enumerate(self.items) if i not in gone]

    def _keep(self, split: str) -> None:
        """Keep the items and clips of one split."""
        if split == "all":
            return
        splits = [_split_of(item) for item in self.items]
        counts = Counter(s for s in splits if s is not None)
        if split not in counts:
            there = ", ".join(f"{name!r} ({n} images)" for name, n in counts.items())
            raise ValueError(
                f"{self.name} has no split {split!r}; it has "
                f"{there or 'no official split and does not say who is who'}, and 'all'"
            )
        self.items = [item for item, s in zip(self.items, splits, strict=True) if s == split]
        self.clips = [clip for clip in self.clips if person_split(clip.identity) == split]

    def layout_error(self, problem: str) -> LayoutError:
        """Return a LayoutError that shows the expected layout and what there is."""
        return layout_error(self.name, self.root, self.layout, problem)

    @property
    def classes(self) -> list[str]:
        """Class names, by index."""
        return list(self.scheme.classes.values())

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Index by class name."""
        return {name: index for index, name in self.scheme.classes.items()}

    @cached_property
    def targets(self) -> list[int]:
        """The class index of every image."""
        return [self._index[item.class_name] for item in self.items]

    @cached_property
    def identities(self) -> list[str | None]:
        """Who every image shows; None where the set does not say."""
        return [item.identity for item in self.items]

    @property
    def source(self) -> ItemSource:
        """The same images as a `FaceSource`, which `expand` and `evaluate` take."""
        return ItemSource(self.classes, self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, target = self.image(index), self.target(index)
        if self.transforms is not None and not isinstance(self.transforms, StandardTransform):
            image, target = self.transforms(image, target)
        # apart from `transforms`, as timm's loaders assign `transform` afterwards
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def image(self, index: int) -> Image.Image:
        """Return an image, of the face alone, in `mode`.

        Raises:
            UnreadableImageError: it is damaged.
        """
        item = self.items[index]
        try:
            return Image.fromarray(item.read()).convert(self.mode)
        except UnreadableImageError as error:
            raise type(error)(f"{self.name}, {item.origin}: {error}") from error

    def target(self, index: int) -> Any:
        """Return the class index of an image."""
        return self._index[self.items[index].class_name]

    def to_hf(self) -> datasets.Dataset:
        """Return the same images as a `datasets.Dataset`; see `expraug.datasets.readers.to_hf`."""
        from expraug.datasets.readers.hugging_face import to_hf

        return to_hf(self)

    def extra_repr(self) -> str:
        reasons = "".join(f"\nSkipped: {n} {reason}" for reason, n in self._reasons().items())
        clips = f"\nClips: {len(self.clips)}" if self.clips else ""
        return f"Split: {self.split}{clips}{reasons}"

    def _reasons(self) -> Counter[str]:
        return Counter(skipped.reason for skipped in self.skipped)


def _split_of(item: FaceItem) -> str | None:
    if item.split is not None or item.identity is None:
        return item.split
    return person_split(item.identity)


def numbered(classes: Sequence[str], text: str, *, first: int = 0) -> str | None:
    """Return the class that a number means, "3" or "3.0000e+00"; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    index = number - first
    return classes[int(index)] if index in range(len(classes)) else None
