"""Which reading of an expression from landmarks is best: a table.

    python -m recipes.transfer.compare_expression_readings --faces work/real_faces --ict models

FACES is what `recipes.real_faces` left: LFW, FER2013 and London. ICT is a folder with
`ict_facekit.npz` and `ict_vertex_indices.json` of the ICT-FaceKit; without it, those rows are left
out. Everything is learned from training people, every figure is of people of other splits. Ten
minutes on a core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from expraug import create_synthesizer
from expraug.expressions import Expression
from expraug.synthesizers.transfer import TransferSynthesizer
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
ACTION_UNITS: tuple[str, ...] = (
    "noseSneer_L",
    "noseSneer_R",
    "mouthFrown_L",
    "mouthFrown_R",
    "mouthShrugLower",
)
ACTION_UNITS += ("mouthShrugUpper", "mouthDimple_L", "mouthDimple_R")
"""ICT's shapes of AU 9, 15, 17, 10 and 14, which the scores hardly know."""
UNIT_PENALTY = 4.0
WIDTH, STEPS, BATCH, DROPOUT, SHARE = 128, 1000, 128, 0.2, 0.1


@dataclass(frozen=True)
class Reading:
    """A way to read expressions.

    Args:
        read: from faces to their deviations, (N, 478, 2).
        carry: from sources and exemplars to the exemplars' deviations as they look on the sources'
            heads; None takes them as they are.
        model: lends by `expression_readings.lend`; None adds and subtracts deviations.
    """

    read: Callable[[LandmarkSet], Tensor]
    carry: Callable[[LandmarkSet, LandmarkSet], Tensor] | None = None
    model: Model | None = None

    def move(self, sources: LandmarkSet, exemplars: LandmarkSet, lain: Tensor) -> Tensor:
        """Return the sources' landmarks, laid over the steady points, with the exemplars'
        expressions."""
        lent = self.carry(sources, exemplars) if self.carry else self.read(exemplars)
        own = self.read(sources)
        if self.model is None:
            return lain - own + lent
        return lend(
            self.model, lain, own, lent, lay_over(exemplars.landmarks, self.model["points"])
        )


def of_model(model: Model) -> Reading:
    return Reading(lambda f: apply(model, f.landmarks, f.scores, f.pose))


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

    return Reading(read)


def by_scores(synthesizer: TransferSynthesizer) -> Reading:
    """Return the reading of `transfer`: linear in scores, and in scores times pose."""
    basis = torch.stack([synthesizer.basis, synthesizer.basis_yaw, synthesizer.basis_pitch])
    basis, rest, moves = basis.double(), synthesizer.rest.double(), synthesizer.moves.double()

    def carry(sources: LandmarkSet, exemplars: LandmarkSet) -> Tensor:
        change = (exemplars.scores - rest) * moves
        yaw, pitch = (sources.pose[:, :2].clamp(-45, 45) / 30).unbind(1)
        factors = torch.stack([torch.ones_like(yaw), yaw, pitch])
        result: Tensor = torch.einsum("fn,ns,fsk->nk", factors, change, basis).unflatten(1, (-1, 2))
        return result

    return Reading(lambda faces: carry(faces, faces), carry)


def with_action_units(scores: Reading, faces: LandmarkSet, model: Model, kit: Kit) -> Reading:
    """Return the reading by scores, and what they leave explained by shapes of action units: the
    maximum a posteriori where neutral faces' residuals are the noise."""
    shapes = torch.stack([kit.shape(n) for n in ACTION_UNITS]).flatten(1)

    def left(f: LandmarkSet) -> Tensor:
        shape = levelled(model, f.landmarks, f.pose) - model["rest"]
        return shape - scores.read(f).flatten(1)

    noise = left(faces.take(faces.expression == int(Expression.NEUTRAL)))
    mean = noise.mean(0)
    covariance = (noise - mean).T @ (noise - mean) / len(noise)
    covariance += 1e-2 * covariance.diagonal().mean() * torch.eye(len(mean), dtype=mean.dtype)
    gain = torch.linalg.solve(covariance, shapes.T)
    prior = UNIT_PENALTY * torch.eye(len(shapes), dtype=mean.dtype)
    gain = torch.linalg.solve(shapes @ gain + prior, gain.T)

    def units(f: LandmarkSet) -> Tensor:
        result: Tensor = ((left(f) - mean) @ gain.T @ shapes).unflatten(1, (-1, 2))
        return result

    assert scores.carry is not None
    lent = scores.carry
    return Reading(lambda f: scores.read(f) + units(f), lambda s, e: lent(s, e) + units(e))


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

    return Reading(read, carry)


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

    return Reading(flat.read, carry)


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
        "basis of scores (`transfer`)": by_scores(synthesizer),
        "ridge on scores": plain_ridge(faces, slice(81, None)),
        "ridge, plain": plain_ridge(faces, slice(1, None)),
        "ridge": of_model(model),
        "ridge, one-sided": of_model(fit(faces)),
        "ridge, one-sided, crowd": of_model(final),
        "the same, `lend`": replace(of_model(final), model=final),
        "two covariances": of_model(fit_two_covariances(faces)),
        "ridge and net": network(faces, model),
    }
    if ict is not None:
        rest = base["rest"].unflatten(0, (-1, 2))
        kit = load_kit(ict / "ict_facekit.npz", ict / "ict_vertex_indices.json", rest)
        print(f"ICT-FaceKit at MediaPipe's landmarks: {kit.residual * 10:.1f} mm\n")
        scores = found["basis of scores (`transfer`)"]
        some = faces.take(torch.arange(0, len(faces), 8))
        found["basis of scores, AU shapes"] = with_action_units(scores, faces, base, kit)
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
