"""Fit `emotiongan` on a trained generator: directions of expression, and how far to go along them.

    python recipes/train_judge.py FER2013.parquet LFW.parquet@detect --half 0 --out JUDGE
    python recipes/fit_emotiongan.py GENERATOR FER2013.parquet LFW.parquet@detect --half 0 \\
        --pairs PAIRS.parquet --identity dlib:FOLDER --judge JUDGE --out expraug/weights/emotiongan

GENERATOR is what `train_generator.py` wrote, or "package.module:function" of another generator,
with a background, whose faces are inverted by optimisation alone. The sets are real faces as
`train_judge.py` takes them: of the half that JUDGE learned from, the directions; of the training
people and images of the other half, whom neither has seen, how far to go. The judge of the
evaluation knows that other half, and lends nothing to this one.

PAIRS is what `make_pairs.py` wrote with the same JUDGE: how the faces of one person differ says
which moves are likely. Without it, how all faces differ does, light and face shape included.

What read-outs of identity and pose stay is learned from the sets that name their people; embeddings
and angles are kept in `--work`, so another generator is fitted in minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import xxhash
from face_measures import light_of, mesh_of, pose_of
from labelled_faces import LabelledFaces, gather, sources_of
from lengths import Limits, choose, embeddings_of, print_table
from options import fill, read_yaml
from paired.data import read_pairs
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_judge import EXPRESSIONS

from expraug.evaluate.fidelity import shrunk_covariance
from expraug.evaluate.judge import FerJudge, load_judge, see
from expraug.expressions import Expression
from expraug.faces.identity import IdentityEncoder, create_identity_encoder
from expraug.faces.paste import face_mask
from expraug.latent.directions import (
    Readout,
    expression_directions,
    fit_linear,
    fit_logistic,
    fit_matched,
    leading,
    log_odds,
    own_directions,
    resisted,
)
from expraug.latent.generator import encode
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer, Manipulation

COMBINATIONS = 2
"""Random combinations of the identity embedding whose gradients are taken at each face."""
MESH_SIZE = 128
"""Side of the faces that landmarks of pairs are found in, in pixels."""
CONFIG = Path(__file__).parent / "configs" / "emotiongan.yaml"


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        manipulation: as `EmotionGANSynthesizer` takes it.
        model: what the linear model is one of: "labels", of real faces' labels, by logistic
            regression; "pairs", of which of a person's two faces shows it, by a regression of
            matched pairs; "drawn", of the log odds that the judge gives to drawn faces: the mean
            of their gradients, which is their regression on ever smaller moves (Stein 1981).
        drawn: faces that gradients are taken at.
        shun: how much a move pays for what it changes in the identity of the drawn face.
        strength: of the penalty of the linear model, in faces.
        scores: weigh each face by the judge's probability of its label, to this power; 0: alike.
        mirror: learn from the mirrored faces, too.
        conditional: leave the other expressions as they are, against one another.
        identity: how many read-outs of identity stay.
        pose, light: whether yaw, pitch and roll, and the light on either half of the face, stay.
        ridge: penalty of those read-outs.
        refining_steps: of optimisation for a generator without an encoder.
        sources: faces that the lengths are chosen on, for each target, at most.
        reach, longest, grid, verified, margin: how far intensity 1 goes, in units of log odds, as
            `lengths.Limits` has it.
        seed: of the choice of sources.
    """

    manipulation: Manipulation = "by"
    model: str = "drawn"
    drawn: int = 200
    shun: float = 3.0
    strength: float = 300.0
    scores: float = 1.0
    mirror: bool = True
    conditional: bool = True
    identity: int = 0
    pose: bool = True
    light: bool = True
    ridge: float = 0.1
    refining_steps: int = 200
    sources: int = 120
    reach: float = 1.0
    longest: float = 12.0
    grid: int = 24
    verified: float = 0.95
    margin: float = 0.01
    seed: int = 0


def digest(text: str) -> str:
    """Return a short name of what something was made of."""
    return xxhash.xxh64_hexdigest(text.encode())


def cached(file: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor in a file, which is made if it is not there."""
    if not file.is_file():
        save_file({"values": make().contiguous()}, file)
    return load_file(file)["values"]


def load_generator(
    source: str, expressions: list[str], setting: Setting, device: torch.device
) -> EmotionGANSynthesizer:
    """Return a synthesizer with a generator's weights and nothing fitted yet."""
    if setting.model not in ("labels", "pairs", "drawn"):
        raise SystemExit(f"model must be 'labels', 'pairs' or 'drawn', not {setting.model!r}")
    binomial = setting.model != "labels"
    folder = Path(source)
    if not (folder / "config.json").is_file():
        refining = {"steps": setting.refining_steps}
        model = EmotionGANSynthesizer(
            expressions,
            source,
            manipulation=setting.manipulation,
            binomial=binomial,
            refining=refining,
            background=True,
        ).to(device)
        inputs = getattr(model.generator, "inputs", model.generator.width)
        torch.manual_seed(setting.seed)
        codes = [model.generator.mapping(torch.randn(64, inputs, device=device)) for _ in range(32)]
        model.mean.copy_(torch.cat(codes).mean(0))
        return model.eval().requires_grad_(False)
    config = json.loads((folder / "config.json").read_text())
    encoder = {"channels": config.pop("encoder_channels")}
    model = EmotionGANSynthesizer(
        expressions,
        config,
        encoder,
        setting.manipulation,
        binomial,
    )
    state = {k: t.float() for k, t in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [k for k in missing if k.startswith(("generator.", "encoder."))]
    if missing or unexpected:
        raise SystemExit(f"{folder}: weights {missing + unexpected} do not fit its config.json")
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def codes_of(model: EmotionGANSynthesizer, faces: Tensor, shapes: Tensor | None = None) -> Tensor:
    """Return (N, L, W) codes of (N, 1, S, S) uint8 faces, on the CPU; see `encode` for shapes."""
    device, found = model.mean.device, []
    for at in torch.arange(len(faces)).split(256):
        grey = faces[at].to(device).float() / 255
        shape = None if shapes is None else shapes[at].to(device)
        # in batches, unlike `invert`: a last digit does not matter to a fit
        if model.encoder is None:
            codes = model.invert(grey)
        else:
            codes = encode(model.generator, model.encoder, model.shown(grey), shape)
        found.append(codes.cpu())
    return torch.cat(found)


@torch.inference_mode()
def scores_of(data: LabelledFaces, judge: FerJudge, device: torch.device) -> Tensor:
    """Return (N, E) probabilities of the judge's expressions, on the CPU."""
    parts = torch.arange(len(data.labels)).split(256)
    return torch.cat([judge.probabilities(data.grey(at).to(device)).cpu() for at in parts])


def kept_readouts(
    data: LabelledFaces,
    codes: Tensor,
    covariance: Tensor,
    setting: Setting,
    work: Path,
    key: str,
    encoder: IdentityEncoder | None,
    device: torch.device,
) -> Tensor:
    """Return (M, D): read-outs of identity, pose and light that are to stay.

    Args:
        codes: (N, D) of the faces as they are.
        key: names what embeddings and angles were made of.
    """
    rows = [torch.empty(0, codes.shape[1], dtype=torch.float64)]

    def add(values: Tensor, chosen: Tensor, count: int, name: str) -> None:
        readout = fit_linear(codes[chosen], values, setting.ridge)
        explained = 1 - (readout(codes[chosen]) - values).square().sum() / (
            (values - values.mean(0)).square().sum()
        )
        found = leading(readout, covariance, count)
        rows.append(found)
        print(
            f"{name}: {len(found)} read-outs stay; codes explain {float(explained):.2f} of the "
            f"variance over {len(values)} faces"
        )

    if setting.light:
        add(light_of(data.faces), torch.ones_like(data.named), 2, "light")
    named = data.named.nonzero().flatten()
    if setting.identity and encoder is not None and len(named):
        file = work / f"identity-{digest(key + encoder.name)}.safetensors"
        known = cached(file, lambda: embeddings_of(data.grey(named).to(device), encoder))
        add(known, named, setting.identity, "identity")
    if setting.pose and len(named):
        file = work / f"pose-{digest(key)}.safetensors"
        angles = cached(file, lambda: pose_of(data.faces[named]))
        seen = angles.isfinite().all(1)
        add(angles[seen], named[seen], 3, "pose")
    return torch.cat(rows)


def make_with(model: EmotionGANSynthesizer, source: Tensor, row: int) -> Callable[[float], Tensor]:
    """Return what makes faces of (N, 1, S, S) ones with any length for one expression, and leaves
    that length in the model."""
    mask = face_mask(model.image_size).to(source)
    codes = model.invert(source)
    drawn, start = model.draw(codes), float(model.odds(codes)[:, row].mean())
    asked = torch.full((len(codes),), int(model.expressions[row]), device=codes.device)

    def make(length: float) -> Tensor:
        model.steps[row], model.levels[row] = length, start + length
        move = model.move(codes, asked, torch.ones(len(codes), device=codes.device))
        return (source + (model.draw(codes + move) - drawn) * mask).clamp(0, 1)

    return make


@dataclass
class Gradients:
    """What happens to a face when its codes move, as the change added to it shows.

    Args:
        odds: (E, D), of the judge's log odds of each expression, in the mean.
        constants: (E,), so that the linear model with these weights is right in the mean.
        identity: (N, D), of random combinations of the identity embedding.
    """

    odds: Tensor
    constants: Tensor
    identity: Tensor


def gradients(
    model: EmotionGANSynthesizer,
    data: LabelledFaces,
    judge: FerJudge,
    encoder: IdentityEncoder | None,
    setting: Setting,
) -> Gradients:
    """Take gradients at faces that each expression is made of, every second of them mirrored."""
    columns = [judge.expressions.index(e) for e in model.expressions]
    mask = face_mask(model.image_size).to(model.mean.device)
    count = model.mean.numel()
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in columns]
    identity = [torch.empty(0, count)]
    torch.manual_seed(setting.seed)
    for only in (True, False):  # what neutral faces are made of, and what others are
        rows = [i for i, e in enumerate(model.expressions) if (e == Expression.NEUTRAL) == only]
        if not rows:
            continue
        at = sources_of(data, model.expressions[rows[0]], setting.seed, setting.drawn)
        for place, one in enumerate(at.split(1)):
            face = data.grey(one).to(mask)
            face = face.flip(3) if place % 2 else face
            codes = model.invert(face).requires_grad_()
            drawn = model.draw(codes)
            changed = face + (drawn - drawn.detach()) * mask
            windows = see(changed)
            seen = log_odds((judge(windows) + judge(windows.flip(3)))[:, columns] / 2)[0]
            for row in rows:
                (slope,) = torch.autograd.grad(seen[row], codes, retain_graph=True)
                slope = slope.flatten().double().cpu()
                level = seen[row].double().cpu() - slope @ codes.detach().flatten().double().cpu()
                found[row].append((slope, level.detach()))
            if encoder is not None and setting.shun:
                embedding = encoder(changed.expand(-1, 3, -1, -1))
                for _ in range(COMBINATIONS):
                    some = (embedding * torch.randn_like(embedding)).sum()
                    (slope,) = torch.autograd.grad(some, codes, retain_graph=True)
                    identity.append(slope.flatten()[None].cpu())
    odds = torch.stack([torch.stack([s for s, _ in row]).mean(0) for row in found])
    constants = torch.stack([torch.stack([c for _, c in row]).mean() for row in found])
    return Gradients(odds, constants, torch.cat(identity))


def fit(
    model: EmotionGANSynthesizer,
    data: LabelledFaces,
    judge: FerJudge,
    encoder: IdentityEncoder | None,
    setting: Setting,
    work: Path,
    key: str,
    pairs: Path | None = None,
) -> None:
    """Fill in the mean code, the linear model and the directions."""
    flat = codes_of(model, data.faces).flatten(1)
    mirrored = codes_of(model, data.faces.flip(3)).flatten(1) if setting.mirror else flat[:0]
    codes = torch.cat([flat, mirrored])
    covariance = torch.from_numpy(shrunk_covariance(codes.double().numpy()))
    if model.encoder is not None:
        model.mean.copy_(codes.mean(0).view_as(model.mean))
    kept = kept_readouts(data, flat, covariance, setting, work, key, encoder, model.mean.device)
    slopes, matched = None, None
    moves = [covariance] * len(model.expressions)
    if setting.model == "pairs" and pairs is None:
        raise SystemExit("model 'pairs' needs --pairs")
    if pairs is not None:
        shown = data.labels[data.named] if data.named.any() else data.labels
        matched = moves_of_pairs(model, pairs, work, shown)
        every = torch.cat(matched)
        moves = [likely(there if len(there) else every) for there in matched]
    if setting.model == "drawn" or (setting.shun and encoder is not None):
        slopes = gradients(model, data, judge, encoder, setting)
        if len(slopes.identity):
            moves = [resisted(m, slopes.identity, setting.shun) for m in moves]
    if model.binomial:
        if setting.model == "pairs":
            assert matched is not None
            weights = [fit_matched(there, setting.strength) for there in matched]
            readout = Readout(torch.stack(weights), torch.zeros(len(weights)).double())
        else:
            assert slopes is not None
            readout = Readout(slopes.odds, slopes.constants)
        each = zip(readout.weight.split(1), moves, strict=True)
        found = torch.cat([own_directions(weight, usual, kept) for weight, usual in each])
    else:
        readout = fit_labels(model, data, codes, judge, setting, work, key)
        found = torch.stack(
            [
                expression_directions(readout.weight, usual, kept, setting.conditional)[row]
                for row, usual in enumerate(moves)
            ]
        )
    length = (found * torch.linalg.solve(covariance, found.T).T).sum(1).sqrt()
    print(
        "a unit, in standard deviations of codes: "
        + ", ".join(f"{e} {s:.2f}" for e, s in zip(model.expressions, length.tolist(), strict=True))
    )
    model.directions.copy_(found.view_as(model.directions))
    model.logits.copy_(readout.weight.view_as(model.logits))
    model.constants.copy_(readout.bias)


def moves_of_pairs(
    model: EmotionGANSynthesizer, pairs: Path, work: Path, labels: Tensor
) -> list[Tensor]:
    """Return what sets a person's faces apart from their neutral photograph.

    A painted generator's shapes are those of the landmarks, which an encoder sees less clearly.

    Returns:
        For each expression (N, D) float64, differences of codes; neutral is the way back from the
        others, each as frequent as among the labels of real faces.
    """
    faces = read_pairs(pairs, model.image_size, tuple(Expression))
    seen, shapes = torch.ones(len(faces), dtype=torch.bool), None
    pictures = getattr(model.generator, "pictures", None)
    if pictures is not None:
        key = digest(f"{pairs.resolve()} {pairs.stat().st_size}")
        large = read_pairs(pairs, MESH_SIZE, tuple(Expression)).pixels
        mesh = cached(work / f"pairs-{key}.safetensors", lambda: mesh_of(large))
        seen, rest = mesh.isfinite().all(2).all(1), pictures.rest.cpu()
        mesh = torch.where(seen[:, None, None], mesh, rest)
        shapes = pictures.shapes(mesh.to(pictures.rest)).cpu()
    codes = codes_of(model, faces.pixels, shapes).flatten(1)
    first = torch.full((int(faces.group.max()) + 1,), -1)
    own = (faces.photograph & seen).nonzero().flatten()
    first[faces.group[own]] = own
    made = (~faces.photograph & seen & (first[faces.group] >= 0)).nonzero().flatten()
    print(f"{len(made)} pairs say which moves are likely")
    moves = (codes[made] - codes[first[faces.group[made]]]).double()
    row = model.row.cpu()[faces.category[made]]
    back = -moves[_as_often(row, labels, model.expressions)]
    return [
        back if expression == Expression.NEUTRAL else moves[row == number]
        for number, expression in enumerate(model.expressions)
    ]


def _as_often(row: Tensor, labels: Tensor, expressions: tuple[Expression, ...]) -> Tensor:
    """Return places of pairs, drawn so that expressions are as frequent as among real faces."""
    real = torch.stack([(labels == int(e)).sum() for e in expressions]).double()
    there = torch.bincount(row[row >= 0], minlength=len(expressions))
    weight = (real / there.clamp(min=1))[row] * (row >= 0)
    if not weight.any():
        return torch.empty(0, dtype=torch.long)
    random = torch.Generator().manual_seed(0)
    return torch.multinomial(weight, int((row >= 0).sum()), replacement=True, generator=random)


def likely(moves: Tensor) -> Tensor:
    """Return the (D, D) covariance of moves, there and back."""
    return torch.from_numpy(shrunk_covariance(torch.cat([moves, -moves]).numpy()))


def fit_labels(
    model: EmotionGANSynthesizer,
    data: LabelledFaces,
    codes: Tensor,
    judge: FerJudge,
    setting: Setting,
    work: Path,
    key: str,
) -> Readout:
    """Fit the logistic regression of the labels, to codes of faces and, below, mirrored faces."""
    row = model.row.cpu()[data.labels]
    weights = torch.ones(len(row), dtype=torch.float64)
    if setting.scores:
        columns = [judge.expressions.index(e) for e in model.expressions]
        file = work / f"scores-{digest(key + judge.name)}.safetensors"
        scores = cached(file, lambda: scores_of(data, judge, model.mean.device))[:, columns]
        weights = scores.gather(1, row.clamp(min=0)[:, None])[:, 0].double() ** setting.scores
    both = len(codes) // len(row)
    row, weights = row.repeat(both), weights.repeat(both)
    known = row >= 0
    readout = fit_logistic(codes[known], row[known], weights[known], setting.strength)
    recall = balanced_recall(readout, codes, row)
    print(f"{int(known.sum())} faces; the linear model's recall of its own, balanced: {recall:.3f}")
    return readout


def balanced_recall(readout: Readout, codes: Tensor, row: Tensor) -> float:
    """Return the mean over expressions of the share that a linear model gets right."""
    right = readout(codes).argmax(1) == row
    return float(np.mean([float(right[row == r].float().mean()) for r in row[row >= 0].unique()]))


@torch.inference_mode()
def set_lengths(
    model: EmotionGANSynthesizer,
    held: LabelledFaces,
    judge: FerJudge,
    encoder: IdentityEncoder | None,
    setting: Setting,
) -> list[dict[str, str]]:
    """Set how far each expression goes, and return the figures behind it."""
    lines = []
    for row, target in enumerate(model.expressions):
        at = sources_of(held, target, setting.seed, setting.sources)
        source = held.grey(at).to(model.mean.device)
        make = make_with(model, source, row)
        limits = Limits(*(getattr(setting, f.name) for f in fields(Limits)))
        length, line = choose(make, source, target, held, judge, encoder, limits)
        make(length)
        lines.append(line)
    return lines


def main(
    generator: Annotated[str, typer.Argument(help="Folder, or 'package.module:function'.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    half: Annotated[int, typer.Option(min=0, max=1, help="What the judge learned from.")],
    judge: Annotated[Path, typer.Option(help="Folder of train_judge.py, not the embedded one.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    pairs: Annotated[Path | None, typer.Option(help="What make_pairs.py wrote.")] = None,
    identity: Annotated[
        str, typer.Option(help="'facenet', 'dlib:PATH', or 'none': nothing keeps identity then")
    ] = "facenet",
    config: Annotated[Path, typer.Option(help="YAML of settings.")] = CONFIG,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As identity=4; several.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for aligned faces.")] = Path("work"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = fill(Setting, read_yaml(config, option or []), str(config))
    work.mkdir(parents=True, exist_ok=True)
    on = torch.device(device)
    the_judge = load_judge(judge).to(on)
    encoder = None if identity == "none" else create_identity_encoder(identity).to(on)
    model = load_generator(generator, [str(e) for e in EXPRESSIONS], setting, on)
    data = gather(work, sets, half, model.image_size)
    fit(model, data, the_judge, encoder, setting, work, f"{sets} {half} {model.image_size}", pairs)
    held = gather(work, sets, 1 - half, model.image_size)
    if not model.binomial:
        readout = Readout(model.logits.cpu().flatten(1).double(), model.constants.cpu().double())
        codes, row = codes_of(model, held.faces).flatten(1), model.row.cpu()[held.labels]
        recall = balanced_recall(readout, codes, row)
        print(f"its recall, balanced, of {len(row)} faces that it does not know: {recall:.3f}")
    print_table(set_lengths(model, held, the_judge, encoder, setting))
    model.save_pretrained(out)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
