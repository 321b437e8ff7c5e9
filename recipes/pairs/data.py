"""What synthesizers that learn from pairs draw their batches from: pairs, and single real faces."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import xxhash
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from expraug.datasets import person_split
from expraug.expressions import Expression
from expraug.faces.composite import luminance
from recipes.labelled_faces import prepared
from recipes.pairs.london import aligned_pairs
from recipes.training.batch import Batch


@dataclass
class Faces:
    """Faces, N of them, some of which show the same person in the same pose.

    Args:
        pixels: (N, 1, S, S) uint8, aligned, grey.
        category: (N,) long, what they show.
        group: (N,) long; any two faces of a group are a pair.
        person: (N,) long.
        photograph: (N,) bool, not synthetic.
        embedding: (N, D) unit vectors of identity: of the photograph of the group.
    """

    pixels: Tensor
    category: Tensor
    group: Tensor
    person: Tensor
    photograph: Tensor
    embedding: Tensor

    def __len__(self) -> int:
        return len(self.category)

    def take(self, index: Tensor) -> Faces:
        """Return the faces at an index or a mask."""
        return Faces(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> Faces:
        """Return the same on a device."""
        return Faces(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def concatenate(parts: list[Faces]) -> Faces:
    """Return the faces of all parts; groups of different parts differ, persons may be the same."""
    found = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Faces)}
    shift, shifted = 0, []
    for part in parts:
        shifted.append(part.group + shift)
        shift += int(part.group.max()) + 1
    return Faces(**found | {"group": torch.cat(shifted)})


def person_number(identity: str) -> int:
    """Return a number that stands for a person in whatever file they are."""
    return xxhash.xxh3_64_intdigest(identity.encode()) >> 1


def cached(file: Path, make: Callable[[], Faces], what: str) -> Faces:
    """Return what is in the file if it was made of the same things, else make and save it."""
    if file.is_file():
        with safe_open(file, "pt") as saved:
            if saved.metadata() == {"what": what}:
                return Faces(**{f.name: saved.get_tensor(f.name) for f in fields(Faces)})
    faces = make()
    part = file.with_suffix(".part")
    save_file({f.name: getattr(faces, f.name).clone() for f in fields(Faces)}, part, {"what": what})
    part.replace(file)
    return faces


def read_pairs(path: Path, size: int, categories: tuple[Expression, ...]) -> Faces:
    """Return the faces that `recipes.pairs.make_pairs` wrote, without their embeddings."""
    place = {str(e): i for i, e in enumerate(categories)}
    pixels, category, group, person, photograph = [], [], [], [], []
    for batch in pq.ParquetFile(path).iter_batches(256):
        for line in batch.to_pylist():
            picture = Image.open(io.BytesIO(line["image"]["bytes"])).convert("L")
            face = pil_to_tensor(picture)
            if face.shape[-1] != size:
                face = (
                    F.interpolate(face[None].float(), (size, size), mode="area")[0].round().byte()
                )
            pixels.append(face)
            category.append(place[line["expression"]])
            group.append(line["source"])
            person.append(person_number(line["identity"]))
            photograph.append(line["variant"] is None)
    return Faces(
        torch.stack(pixels),
        torch.tensor(category),
        torch.tensor(group),
        torch.tensor(person),
        torch.tensor(photograph),
        torch.empty(len(group), 0),
    )


def photographs(path: Path, size: int, categories: tuple[Expression, ...]) -> Faces:
    """Return the training people that were photographed neutral and happy, a group each."""
    people = aligned_pairs(path, size)
    faces, shown, group, person = [], [], [], []
    for number, who in enumerate(k for k in people if person_split(k) == "train"):
        for expression, face in people[who].items():
            faces.append((luminance(face[None])[0] * 255).round().to(torch.uint8))
            shown.append(categories.index(expression))
            group.append(number)
            person.append(person_number(who))
    return Faces(
        torch.stack(faces),
        torch.tensor(shown),
        torch.tensor(group),
        torch.tensor(person),
        torch.ones(len(group), dtype=torch.bool),
        torch.empty(len(group), 0),
    )


def single_faces(work: Path, sets: list[str], half: int | None) -> Faces:
    """Return real faces of sets, each a group of its own; the categories are expressions."""
    data = [prepared(work, name, half, "train") for name in sets]
    labels = torch.cat([d["labels"] for d in data])
    order = torch.arange(len(labels))
    real = torch.ones(len(labels), dtype=torch.bool)
    pixels = torch.cat([d["faces"] for d in data])
    return Faces(pixels, labels, order, order, real, torch.empty(len(labels), 0))


def embed(faces: Faces, encoder: Callable[[Tensor], Tensor], device: torch.device) -> Faces:
    """Fill in the embeddings, (N, D): each group has that of its first photograph."""
    order = torch.arange(len(faces))
    first = torch.full((int(faces.group.max()) + 1,), len(faces))
    shown = faces.photograph
    first.scatter_reduce_(0, faces.group[shown], order[shown], "amin")
    groups = torch.unique(faces.group)
    found = []
    for part in first[groups].split(32):
        grey = faces.pixels[part].to(device).float() / 255
        found.append(encoder(grey.expand(-1, 3, -1, -1)).cpu())
    table = torch.zeros(int(groups.max()) + 1, found[0].shape[1])
    table[groups] = torch.cat(found)
    faces.embedding = table[faces.group]
    return faces


class Draw:
    """Draws batches.

    Args:
        faces: pairs.
        singles: real faces, each a group and a person of its own, of any side.
        size: side of the batches' faces.
        categories: number of expressions.
        pairs, unpaired: sources of a batch with and without a target, at least 1 of each.
        paired_photographs: share of the pairs both of which are photographs, if there are any.
    """

    def __init__(
        self,
        faces: Faces,
        singles: Faces,
        size: int,
        categories: int,
        pairs: int,
        unpaired: int,
        paired_photographs: float,
    ) -> None:
        self.faces, self.singles, self.size = faces, singles, size
        self.pairs, self.unpaired = pairs, unpaired
        self.sharing = paired_photographs
        device = faces.category.device
        # place of the face of each group and category, -1 for none
        self.place = torch.full((int(faces.group.max()) + 1, categories), -1, device=device)
        order = torch.arange(len(faces), device=device)
        self.place[faces.group, faces.category] = order
        photographs = torch.bincount(faces.group[faces.photograph], minlength=len(self.place))
        several = (self.place >= 0).sum(1) > 1
        self.real_groups = (several & (photographs > 1)).nonzero().flatten()
        self.groups = (several & (photographs == 1)).nonzero().flatten()
        if not len(self.groups) or min(pairs, unpaired) < 1:
            raise ValueError("no pairs of a photograph and a synthetic face, or none asked for")
        shown = torch.bincount(singles.category, minlength=categories).float()
        self.known = (shown > 0).nonzero().flatten()
        self.even = shown.reciprocal().masked_fill(shown == 0, 0)[singles.category]
        self.embedded = singles.embedding.square().sum(1).nonzero().flatten()

    def __call__(self) -> Batch:
        """Return a batch, drawn from torch's global random generator."""
        source, target = self._pair()
        alone = self._random(self.embedded, self.unpaired)
        shown = self.singles.category[alone]
        other = torch.randint(len(self.known), (self.unpaired,), device=shown.device)
        asked = self.known[other]
        following = self.known[(other + 1) % len(self.known)]
        asked = torch.where(asked == shown, following, asked)
        real = torch.multinomial(self.even, self.pairs + self.unpaired, replacement=True)
        pixels = self.faces.pixels[torch.cat([source, target])].float() / 255
        one, two = vary_alike(pixels, self.pairs).split(self.pairs)
        single = vary_alike(self._resized(alone), self.pairs)
        person = torch.cat([self.faces.person[source], -1 - alone])
        stranger = person[:, None] != person
        stranger[: self.pairs, self.pairs :] = False
        stranger[:, : self.pairs] |= ~stranger.any(1, keepdim=True)  # all of one person
        category = torch.cat([self.faces.category[target], asked])
        return Batch(
            source=torch.cat([one, single]),
            category=category,
            target=two,
            embedding=torch.cat([self.faces.embedding[source], self.singles.embedding[alone]]),
            other=torch.multinomial(stranger.float(), 1)[:, 0],
            real=vary_alike(self._resized(real), self.pairs),
            real_category=self.singles.category[real],
            known=torch.isin(category, self.known),
        )

    def _pair(self) -> tuple[Tensor, Tensor]:
        groups = self._random(self.groups, self.pairs)
        if len(self.real_groups):
            both = torch.rand(self.pairs, device=groups.device) < self.sharing
            groups = torch.where(both, self._random(self.real_groups, self.pairs), groups)
        there = self.place[groups] >= 0
        # the photograph is the source of half of the pairs: what is met in use
        weight = there.float()
        places = self.place[groups].clamp(min=0)
        weight += self.faces.photograph[places] * there * (there.sum(1, keepdim=True) - 2)
        source = torch.multinomial(weight, 1)
        there.scatter_(1, source, False)
        target = torch.multinomial(there.float(), 1)
        return places.gather(1, source)[:, 0], places.gather(1, target)[:, 0]

    def _resized(self, rows: Tensor) -> Tensor:
        pixels = self.singles.pixels[rows].float() / 255
        resized: Tensor = resize(pixels, [self.size, self.size])
        return resized

    @staticmethod
    def _random(values: Tensor, count: int) -> Tensor:
        return values[torch.randint(len(values), (count,), device=values.device)]


def vary_alike(faces: Tensor, count: int) -> Tensor:
    """Mirror, relight and blur (B, 1, S, S) faces in [0, 1]; those that lie `count` or a multiple
    of it apart alike."""
    count = min(len(faces), count)
    gamma = torch.empty(count, device=faces.device).uniform_(-0.3, 0.3).exp()
    soft = (torch.rand(count, device=faces.device) < 0.3).float()
    mirror = torch.rand(count, device=faces.device) < 0.5
    repeat = -(-len(faces) // count)
    gamma, soft, mirror = (
        v.repeat(repeat)[: len(faces)].view(-1, 1, 1, 1) for v in (gamma, soft, mirror)
    )
    faces = torch.where(mirror, faces.flip(3), faces).clamp(min=1e-3) ** gamma
    half = F.interpolate(faces, scale_factor=0.4, mode="bilinear", antialias=True)
    blurred = F.interpolate(half, faces.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(faces, blurred, soft)


def describe(*things: object) -> str:
    """Return what a cached file was made of, as JSON."""
    return json.dumps([str(t) for t in things])
