"""Fit `emotiongan` on a trained generator: directions of expression, and how far to go along them.

    python -m recipes.fer_classifier.train FER2013.parquet LFW.parquet@detect --half 0 \\
        --out CLASSIFIER
    python -m recipes.emotiongan.fit GENERATOR FER2013.parquet LFW.parquet@detect --half 0 \\
        --pairs PAIRS.parquet --identity dlib --classifier CLASSIFIER --out
        expraug/weights/emotiongan

GENERATOR is what `recipes.latent.train_generator` wrote, or "package.module:function" of another
generator, with a background, whose faces are inverted by optimisation alone. The sets are real
faces as `recipes.fer_classifier.train` takes them: of the half that CLASSIFIER learned from, the
directions; of the training people and images of the other half, whom neither has seen, how far to
go. The classifier of the evaluation knows that other half, and lends nothing to this one.

PAIRS is what `recipes.pairs.make_pairs` wrote with the same CLASSIFIER: how the faces of one person
differ says which moves are likely. Without it, how all faces differ does, light and face shape
included.

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
from safetensors.torch import load_file
from torch import Tensor

from expraug.evaluate.frechet import shrunk_covariance
from expraug.faces.composite import face_mask
from expraug.latent.directions import (
    Readout,
    expression_directions,
    fit_linear,
    fit_logistic,
    fit_matched,
    leading,
    own_directions,
)
from expraug.latent.generator import edit
from expraug.networks.fer_classifier import FERNet, load_fer_classifier
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer, Manipulation
from recipes.face_measures import light_of, pose_of
from recipes.labelled_faces import EXPRESSIONS, LabelledFaces, gather, sources_of
from recipes.latent.edit_strength import Limits, choose, embeddings_of, print_table
from recipes.latent.latents import cached, digest, latents_of
from recipes.pairs.moves import likely, moves_of_pairs
from recipes.training.options import load_settings

CONFIG = Path(__file__).parent / "cpu.yaml"


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        manipulation: as `EmotionGANSynthesizer` takes it.
        model: what the linear model is one of: "labels", of real faces' labels, by logistic
            regression; "pairs", of which of a person's two faces shows it, by a regression of
            matched pairs.
        penalty: of the linear model, in faces.
        scores: weigh each face by the classifier's probability of its label, to this power; 0:
            alike.
        mirror: learn from the mirrored faces, too.
        conditional: leave the other expressions as they are, against one another.
        identity: how many read-outs of identity stay.
        pose, light: whether yaw, pitch and roll, and the light on either half of the face, stay.
        ridge: penalty of those read-outs.
        refining_steps: of optimisation for a generator without an encoder.
        sources: faces that edit strengths are chosen on, for each target, at most.
        reach, largest, grid, verified, margin: how far intensity 1 goes, in units of log odds, as
            `recipes.latent.edit_strength.Limits` has it.
        seed: of the choice of sources.
    """

    manipulation: Manipulation = "by"
    model: str = "pairs"
    penalty: float = 300.0
    scores: float = 1.0
    mirror: bool = True
    conditional: bool = True
    identity: int = 4
    pose: bool = True
    light: bool = True
    ridge: float = 0.1
    refining_steps: int = 200
    sources: int = 120
    reach: float = 1.0
    largest: float = 12.0
    grid: int = 24
    verified: float = 0.95
    margin: float = 0.01
    seed: int = 0


def load_generator(
    source: str, expressions: list[str], setting: Setting, device: torch.device
) -> EmotionGANSynthesizer:
    """Return a synthesizer with a generator's weights and nothing fitted yet."""
    if setting.model not in ("labels", "pairs"):
        raise SystemExit(f"model must be 'labels' or 'pairs', not {setting.model!r}")
    binomial = setting.model == "pairs"
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
        latents = [
            model.generator.mapping(torch.randn(64, inputs, device=device)) for _ in range(32)
        ]
        model.mean.copy_(torch.cat(latents).mean(0))
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


@torch.inference_mode()
def scores_of(data: LabelledFaces, classifier: FERNet, device: torch.device) -> Tensor:
    """Return (N, E) probabilities of the classifier's expressions, on the CPU."""
    parts = torch.arange(len(data.labels)).split(256)
    return torch.cat([classifier.probabilities(data.grey(at).to(device)).cpu() for at in parts])


def kept_readouts(
    data: LabelledFaces,
    latents: Tensor,
    covariance: Tensor,
    setting: Setting,
    work: Path,
    key: str,
    encoder: IdentityEncoder | None,
    device: torch.device,
) -> Tensor:
    """Return (M, D): read-outs of identity, pose and light that are to stay.

    Args:
        latents: (N, D) of the faces as they are.
        key: names what embeddings and angles were made of.
    """
    rows = [torch.empty(0, latents.shape[1], dtype=torch.float64)]

    def add(values: Tensor, chosen: Tensor, count: int, name: str) -> None:
        readout = fit_linear(latents[chosen], values, setting.ridge)
        explained = 1 - (readout(latents[chosen]) - values).square().sum() / (
            (values - values.mean(0)).square().sum()
        )
        found = leading(readout, covariance, count)
        rows.append(found)
        print(
            f"{name}: {len(found)} read-outs stay; latents explain {float(explained):.2f} of the "
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
    """Return what makes faces of (N, 1, S, S) ones with any strength for one expression, and leaves
    that strength in the model."""
    mask = face_mask(model.image_size).to(source)
    latents = model.invert(source)
    start = float(model.odds(latents)[:, row].mean())
    asked = torch.full((len(latents),), int(model.expressions[row]), device=latents.device)

    def make(strength: float) -> Tensor:
        model.steps[row], model.levels[row] = strength, start + strength
        move = model.move(latents, asked, torch.ones(len(latents), device=latents.device))
        made = edit(model.generator, source, latents, latents + move)
        return (source + (made - source) * mask).clamp(0, 1)

    return make


def fit(
    model: EmotionGANSynthesizer,
    data: LabelledFaces,
    classifier: FERNet,
    encoder: IdentityEncoder | None,
    setting: Setting,
    work: Path,
    key: str,
    pairs: Path | None = None,
) -> None:
    """Fill in the mean latent, the linear model and the directions."""
    flat = latents_of(model, data.faces).flatten(1)
    mirrored = latents_of(model, data.faces.flip(3)).flatten(1) if setting.mirror else flat[:0]
    latents = torch.cat([flat, mirrored])
    covariance = torch.from_numpy(shrunk_covariance(latents.double().numpy()))
    if model.encoder is not None:
        model.mean.copy_(latents.mean(0).view_as(model.mean))
    kept = kept_readouts(data, flat, covariance, setting, work, key, encoder, model.mean.device)
    moves = [covariance] * len(model.expressions)
    matched = None
    if pairs is not None:
        shown = data.labels[data.named] if data.named.any() else data.labels
        matched = moves_of_pairs(model, pairs, work, shown)
        every = torch.cat(matched)
        moves = [likely(there if len(there) else every) for there in matched]
    if model.binomial:
        if matched is None:
            raise SystemExit("model 'pairs' needs --pairs; 'labels' does without")
        lacking = [str(e) for e, m in zip(model.expressions, matched, strict=True) if not len(m)]
        if lacking:
            raise SystemExit(
                f"{pairs}: no pairs of {', '.join(lacking)}; make some, or set model=labels"
            )
        weights = [fit_matched(there, setting.penalty) for there in matched]
        readout = Readout(torch.stack(weights), torch.zeros(len(weights)).double())
        each = zip(readout.weight.split(1), moves, strict=True)
        found = torch.cat([own_directions(weight, usual, kept) for weight, usual in each])
    else:
        readout = fit_labels(model, data, latents, classifier, setting, work, key)
        found = torch.stack(
            [
                expression_directions(readout.weight, usual, kept, setting.conditional)[row]
                for row, usual in enumerate(moves)
            ]
        )
    deviations = (found * torch.linalg.solve(covariance, found.T).T).sum(1).sqrt()
    print(
        "a unit, in standard deviations of latents: "
        + ", ".join(
            f"{e} {s:.2f}" for e, s in zip(model.expressions, deviations.tolist(), strict=True)
        )
    )
    model.directions.copy_(found.view_as(model.directions))
    model.logits.copy_(readout.weight.view_as(model.logits))
    model.constants.copy_(readout.bias)


def fit_labels(
    model: EmotionGANSynthesizer,
    data: LabelledFaces,
    latents: Tensor,
    classifier: FERNet,
    setting: Setting,
    work: Path,
    key: str,
) -> Readout:
    """Fit the logistic regression of the labels, to latents of faces and, below, mirrored faces."""
    row = model.row.cpu()[data.labels]
    weights = torch.ones(len(row), dtype=torch.float64)
    if setting.scores:
        columns = [classifier.expressions.index(e) for e in model.expressions]
        file = work / f"scores-{digest(key + classifier.name)}.safetensors"
        scores = cached(file, lambda: scores_of(data, classifier, model.mean.device))[:, columns]
        weights = scores.gather(1, row.clamp(min=0)[:, None])[:, 0].double() ** setting.scores
    both = len(latents) // len(row)
    row, weights = row.repeat(both), weights.repeat(both)
    known = row >= 0
    readout = fit_logistic(latents[known], row[known], weights[known], setting.penalty)
    recall = balanced_recall(readout, latents, row)
    print(f"{int(known.sum())} faces; the linear model's recall of its own, balanced: {recall:.3f}")
    return readout


def balanced_recall(readout: Readout, latents: Tensor, row: Tensor) -> float:
    """Return the mean over expressions of the share that a linear model gets right."""
    right = readout(latents).argmax(1) == row
    return float(np.mean([float(right[row == r].float().mean()) for r in row[row >= 0].unique()]))


@torch.inference_mode()
def calibrate_edit_strength(
    model: EmotionGANSynthesizer,
    held: LabelledFaces,
    classifier: FERNet,
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
        strength, line = choose(make, source, target, held, classifier, encoder, limits)
        make(strength)
        lines.append(line)
    return lines


def main(
    generator: Annotated[str, typer.Argument(help="Folder, or 'package.module:function'.")],
    sets: Annotated[list[str], typer.Argument(help="FILE for face crops, FILE@detect otherwise.")],
    half: Annotated[int, typer.Option(min=0, max=1, help="What the classifier learned from.")],
    classifier: Annotated[
        Path, typer.Option(help="Folder of recipes.fer_classifier.train, not the embedded one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    pairs: Annotated[Path | None, typer.Option(help="What recipes.pairs.make_pairs wrote.")] = None,
    identity: Annotated[
        str, typer.Option(help="'dlib', 'facenet', or 'none': nothing keeps identity then")
    ] = "dlib",
    config: Annotated[Path, typer.Option(help="YAML of settings.")] = CONFIG,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As identity=4; several.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for aligned faces.")] = Path("work"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    work.mkdir(parents=True, exist_ok=True)
    on = torch.device(device)
    fer_classifier = load_fer_classifier(classifier).to(on)
    encoder = None if identity == "none" else create_identity_encoder(identity).to(on)
    model = load_generator(generator, [str(e) for e in EXPRESSIONS], setting, on)
    data = gather(work, sets, half, model.image_size)
    fit(
        model,
        data,
        fer_classifier,
        encoder,
        setting,
        work,
        f"{sets} {half} {model.image_size}",
        pairs,
    )
    held = gather(work, sets, 1 - half, model.image_size)
    if not model.binomial:
        readout = Readout(model.logits.cpu().flatten(1).double(), model.constants.cpu().double())
        latents, row = latents_of(model, held.faces).flatten(1), model.row.cpu()[held.labels]
        recall = balanced_recall(readout, latents, row)
        print(f"its recall, balanced, of {len(row)} faces that it does not know: {recall:.3f}")
    print_table(calibrate_edit_strength(model, held, fer_classifier, encoder, setting))
    model.save_pretrained(out)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
