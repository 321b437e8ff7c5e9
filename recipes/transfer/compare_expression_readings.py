"""Which reading of an expression from landmarks is best: a table.

    python -m recipes.transfer.compare_expression_readings --faces work/real_faces --ict models

FACES is what `recipes.real_faces` left: LFW, FER2013 and London. ICT is a folder with
`ict_facekit.npz` and `ict_vertex_indices.json` of the ICT-FaceKit; without it, those rows are left
out. Everything is learned from training people, every figure is of people of other splits. Ten
minutes on a core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from expraug import create_synthesizer
from expraug.expressions import Expression
from expraug.synthesizers.transfer import TransferSynthesizer
from expraug.synthesizers.transfer.lips import part_lips
from expraug.synthesizers.transfer.reading import Deviation
from recipes.transfer.expression_measures import Held, table
from recipes.transfer.expression_readings import (
    PENALTY,
    LandmarkSet,
    Model,
    apply,
    deviations,
    features,
    fit,
    fit_two_covariances,
    joined,
    lay_over,
    lend,
    levelled,
    load_landmarks,
    ridge,
    start,
    weights,
)
from recipes.transfer.ict_facekit import Kit, displacement, fit_kit, load_kit

AGREE = 0.6
"""Share of FER2013's annotators who must agree."""
LARGEST_ANGLE = 30
WIDTH, STEPS, BATCH, DROPOUT, SHARE = 128, 1000, 128, 0.2, 0.1


@dataclass(frozen=True)
class Reading:
    """A way to read expressions.

    Args:
        read: from faces to their deviations, (N, 478, 2).
        move: from sources, exemplars and the sources' landmarks, laid over the steady points, to
            these landmarks with the exemplars' expressions.
    """

    read: Callable[[LandmarkSet], Tensor]
    move: Callable[[LandmarkSet, LandmarkSet, Tensor], Tensor]


def added(
    read: Callable[[LandmarkSet], Tensor],
    carry: Callable[[LandmarkSet, LandmarkSet], Tensor] | None = None,
) -> Reading:
    """Return a reading that takes the source's deviation away and adds the exemplar's.

    Args:
        read: as `Reading` has it.
        carry: from sources and exemplars to the exemplars' deviations as they look on the sources'
            heads; None takes them as they are.
    """

    def move(sources: LandmarkSet, exemplars: LandmarkSet, lain: Tensor) -> Tensor:
        lent = carry(sources, exemplars) if carry else read(exemplars)
        return lain - read(sources) + lent

    return Reading(read, move)


def of_model(model: Model) -> Reading:
    """Return the reading of a model that was fitted."""
    return added(lambda f: apply(model, f.landmarks, f.scores, f.pose))


def lent_by(model: Model) -> Reading:
    """Return the reading of a model whose deviations are lent by `expression_readings.lend`."""
    read = of_model(model).read

    def move(sources: LandmarkSet, exemplars: LandmarkSet, lain: Tensor) -> Tensor:
        goal = lay_over(exemplars.landmarks, model["points"])
        return lend(model, lain, read(sources), read(exemplars), goal)

    return Reading(read, move)


def of_transfer(synthesizer: TransferSynthesizer, lain: Callable[[LandmarkSet], Tensor]) -> Reading:
    """Return the reading of `transfer`, which moves landmarks as it does."""
    reader = synthesizer.reader

    def shape(f: LandmarkSet) -> Tensor:
        inputs = (f.landmarks.float(), f.scores.float(), f.pose.float())
        return reader.shape_features(*inputs) @ reader.shape_map

    def read(f: LandmarkSet) -> Tensor:
        return reader.displacement(shape(f), lain(f).float()).double()

    def move(sources: LandmarkSet, exemplars: LandmarkSet, places: Tensor) -> Tensor:
        before, own = places.float(), shape(sources)
        # the skin plays no part in where landmarks go
        own = reader.beyond_rest(Deviation(own, own.new_zeros(len(own), 1))).shape
        gain = synthesizer.shape_gain[exemplars.expression, None]
        after = before + reader.displacement(shape(exemplars) * gain - own, before)
        gaps = synthesizer.lip_gaps(exemplars.landmarks.float())
        whole = torch.ones(len(after), 1)
        return part_lips(after, before, gaps, whole, synthesizer.followers).double()

    return Reading(read, move)


def plain_ridge(faces: LandmarkSet, columns: slice) -> Reading:
    """Return a ridge without mirror images or crowd, neutral faces weighted 0.3, on some of the
    features."""
    model = start(faces)
    rows, y = deviations(levelled(model, faces.landmarks, faces.pose), faces)
    x = features(model, faces.landmarks, faces.scores, faces.pose)[rows]
    weight = torch.where(faces.expression[rows] == 0, 0.3, weights(faces.expression[rows]))
    chosen = torch.zeros(x.shape[1], dtype=torch.bool)
    chosen[0] = True
    chosen[columns] = True
    model["weight"] = torch.zeros(x.shape[1], y.shape[1], dtype=y.dtype)
    model["weight"][chosen] = ridge(x[:, chosen], y, weight, PENALTY / 3)
    return of_model(model)


def network(faces: LandmarkSet, model: Model) -> Reading:
    """Return a net of one hidden layer that learns what a ridge leaves."""
    both = joined(faces, faces.flipped())
    rows, y = deviations(levelled(model, both.landmarks, both.pose), both)
    x = features(model, both.landmarks, both.scores, both.pose)[rows]
    y = y - x @ model["weight"]
    weight = weights(both.expression[rows]).float()
    axes = torch.linalg.eigh(y.T @ y).eigenvectors.flip(1)[:, :40]
    size = (y @ axes)[:, 0].std()
    x, goal = x[:, 1:].float(), (y @ axes / size).float()
    torch.manual_seed(0)
    last = nn.Linear(WIDTH, goal.shape[1])
    body = nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(x.shape[1], WIDTH),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        last,
    )
    nn.init.zeros_(last.weight)
    optimizer = torch.optim.AdamW(body.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        some = torch.randint(len(x), (BATCH,))
        seen = x[some] + SHARE * torch.randn(BATCH, x.shape[1])
        error = F.mse_loss(body(seen), goal[some], reduction="none").mean(1)
        optimizer.zero_grad()
        (error * weight[some]).mean().backward()
        optimizer.step()
        schedule.step()
    body.eval()

    @torch.no_grad()
    def read(f: LandmarkSet) -> Tensor:
        seen = features(model, f.landmarks, f.scores, f.pose)
        more = body(seen[:, 1:].float()).double() @ axes.T * size
        result: Tensor = (seen @ model["weight"] + more).unflatten(1, (-1, 2))
        return result

    return added(read)


def by_kit(kit: Kit, faces: LandmarkSet, lain: Callable[[LandmarkSet], Tensor]) -> Reading:
    """Return the reading by a fit of ICT-FaceKit; the mean neutral face's expression is no
    deviation."""
    neutral = faces.take(faces.expression == int(Expression.NEUTRAL))
    rest = fit_kit(kit, lain(neutral))[0].mean(0)

    def read(f: LandmarkSet) -> Tensor:
        weight, camera = fit_kit(kit, lain(f))
        return displacement(kit, weight - rest, camera)

    def carry(sources: LandmarkSet, exemplars: LandmarkSet) -> Tensor:
        weight, _ = fit_kit(kit, lain(exemplars))
        return displacement(kit, weight - rest, fit_kit(kit, lain(sources))[1])

    return added(read, carry)


def turned(flat: Reading, kit: Kit, lain: Callable[[LandmarkSet], Tensor]) -> Reading:
    """Return a reading whose deviations, explained by ICT-FaceKit as far as it can, are turned with
    the head from the exemplars' pose to the sources'."""

    def carry(sources: LandmarkSet, exemplars: LandmarkSet) -> Tensor:
        read = flat.read(exemplars)
        cameras = [fit_kit(kit, lain(f))[1] for f in (exemplars, sources)]
        moved = torch.einsum("kpu,nau->nkpa", kit.expression, cameras[0]).flatten(2)
        goal = (read[:, :468] * read.new_tensor([1, -1])).flatten(1)
        normal = moved @ moved.mT + 1e-3 * torch.eye(moved.shape[1], dtype=moved.dtype)
        weight = torch.linalg.solve(normal, (moved @ goal[..., None]))[..., 0]
        shown = [displacement(kit, weight, camera) for camera in cameras]
        return read + shown[1] - shown[0]

    return added(flat.read, carry)


def readings(
    faces: LandmarkSet, crowd: LandmarkSet, base: Model, ict: Path | None
) -> dict[str, Reading]:
    """Return every reading by its name, learned from training people."""

    def lain(f: LandmarkSet) -> Tensor:
        return lay_over(f.landmarks, base["points"])

    synthesizer = create_synthesizer("transfer")
    assert isinstance(synthesizer, TransferSynthesizer)
    model, final = fit(faces, one_sided=0), fit(faces, crowd)
    found = {
        "`transfer`": of_transfer(synthesizer, lain),
        "ridge on scores": plain_ridge(faces, slice(81, None)),
        "ridge, plain": plain_ridge(faces, slice(1, None)),
        "ridge": of_model(model),
        "ridge, one-sided": of_model(fit(faces)),
        "ridge, one-sided, crowd": of_model(final),
        "the same, `lend`": lent_by(final),
        "two covariances": of_model(fit_two_covariances(faces)),
        "ridge and net": network(faces, model),
    }
    if ict is not None:
        rest = base["rest"].unflatten(0, (-1, 2))
        kit = load_kit(ict / "ict_facekit.npz", ict / "ict_vertex_indices.json", rest)
        print(f"ICT-FaceKit at MediaPipe's landmarks: {kit.residual * 10:.1f} mm\n")
        some = faces.take(torch.arange(0, len(faces), 8))
        found["ICT-FaceKit"] = by_kit(kit, some, lain)
        last = found["ridge, one-sided, crowd"]
        found["the same, turned by ICT"] = turned(last, kit, lain)
    return found


def crowd_of(file: Path) -> LandmarkSet:
    """Return FER2013's faces that face the camera and whose annotators agree."""
    crowd, _, agree = load_landmarks(file)
    frontal = (crowd.pose[:, :2].abs() < LARGEST_ANGLE).all(1)
    return crowd.take(frontal & (torch.from_numpy(agree) >= AGREE))


def main(
    faces: Annotated[Path, typer.Option(help="Work folder of recipes.real_faces.")] = Path(
        "work/real_faces"
    ),
    ict: Annotated[Path | None, typer.Option(help="Folder of the ICT-FaceKit.")] = None,
) -> None:
    lfw, split, _ = load_landmarks(faces / "lfw-train.npz")
    train = lfw.take(torch.from_numpy(split == "train"))
    crowd = crowd_of(faces / "fer2013-train.npz")
    london, london_split, _ = load_landmarks(faces / "london-train.npz")
    base = start(joined(train, train.flipped()))
    held = Held(
        base,
        lfw.take(torch.from_numpy(split != "train")),
        london.take(torch.from_numpy(london_split != "train")),
        joined(train, crowd),
    )
    found = readings(train, crowd, base, ict)
    with torch.inference_mode():
        print(table({n: (r.read, r.move) for n, r in found.items()}, held))


if __name__ == "__main__":
    typer.run(main)
