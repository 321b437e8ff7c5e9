"""Fit `emotiongan` on a trained generator: directions of expression, and how far to go along them.

    python -m recipes.emotiongan.fit GENERATOR DATA --pairs PAIRS --half 0 --identity dlib \\
        --out expraug/weights/emotiongan

GENERATOR is what `recipes.latent.train_generator` and then `recipes.latent.fit_moves` wrote, or
"package.module:function" of another generator, with a background, whose faces are inverted by
optimisation alone. DATA and `--work` are as `recipes.real_faces` takes them: the faces of training
people, of one half if wished, and, to choose how far to go, of validation people of LFW.

PAIRS is what `recipes.pairs.make_pairs` wrote: how the faces of one person differ says which moves
are likely. Without it, how all faces differ does, light and face shape included.

What read-outs of identity, pose and light stay is learned from LFW; embeddings and latents are kept
in `--scratch`, so that another setting is fitted in minutes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor

from expraug.evaluate.frechet import shrunk_covariance
from expraug.expressions import Expression
from expraug.latent.directions import (
    Readout,
    expression_directions,
    fit_linear,
    fit_logistic,
    fit_matched,
    leading,
    own_directions,
)
from expraug.networks.identity import IdentityEncoder, create_identity_encoder
from expraug.synthesizers.emotiongan import EmotionGANSynthesizer, Manipulation
from expraug.synthesizers.latent_maps import pictures_of
from recipes.face_measures import light_of
from recipes.latent.latents import Invert, at_side, cached, digest, latents_of_faces
from recipes.pairs.moves import Moves, likely, moves_of_pairs, of_expressions, one_sided, part_of
from recipes.real_faces import LFW, Faces, training_faces
from recipes.strength.calibrate import Limits, calibrate, print_table
from recipes.strength.instrument import Instrument
from recipes.training.options import load_settings

CONFIG = Path(__file__).parent / "cpu.yaml"


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        expressions: to fit.
        manipulation: as `EmotionGANSynthesizer` takes it.
        model: what the linear model is one of: "labels", of real faces' labels, by logistic
            regression; "pairs", of which of a person's two faces shows it, by a regression of
            matched pairs.
        penalty: of the linear model, in faces.
        conditional: leave the other expressions as they are, against one another; for "labels".
        identity: how many read-outs of identity stay.
        pose, light: whether yaw, pitch and roll, and the light on either half of the face, stay.
        ridge: penalty of those read-outs.
        refining_steps: of optimisation for a generator without an encoder.
        sources: validation faces that strengths are chosen on, for each expression.
        limits: of the strengths; what a generator of 64 pixels reads off a face is fainter than
            what was drawn, so that light may be stronger.
        seed: of draws.
    """

    expressions: tuple[str, ...] = tuple(map(str, Expression))
    manipulation: Manipulation = "by"
    model: str = "pairs"
    penalty: float = 300.0
    conditional: bool = True
    identity: int = 4
    pose: bool = True
    light: bool = True
    ridge: float = 0.1
    refining_steps: int = 200
    sources: int = 60
    limits: Limits = field(default_factory=partial(Limits, brightest=1.5))
    seed: int = 0


def load_generator(source: str, setting: Setting, device: torch.device) -> EmotionGANSynthesizer:
    """Return a synthesizer with a generator's weights and nothing fitted yet."""
    if setting.model not in ("labels", "pairs"):
        raise SystemExit(f"model must be 'labels' or 'pairs', not {setting.model!r}")
    binomial = setting.model == "pairs"
    folder = Path(source)
    if not (folder / "config.json").is_file():
        model = EmotionGANSynthesizer(
            setting.expressions,
            source,
            manipulation=setting.manipulation,
            binomial=binomial,
            refining={"steps": setting.refining_steps},
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
    channels = config.pop("encoder_channels")
    encoder = None if config["painted"] else {"channels": channels}
    model = EmotionGANSynthesizer(
        setting.expressions, config, encoder, setting.manipulation, binomial
    )
    file = folder / "model.safetensors"
    state = {k: t.float() for k, t in load_file(file).items()}
    if encoder is None:  # a painted generator's is for its training alone
        state = {k: t for k, t in state.items() if not k.startswith("encoder.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [k for k in missing if k.startswith(("generator.", "encoder."))]
    if missing or unexpected:
        raise SystemExit(f"{folder}: weights {missing + unexpected} do not fit its config.json")
    return model.to(device).eval().requires_grad_(False)


def inversion(model: EmotionGANSynthesizer) -> Invert | None:
    """Return what finds the latents of faces, None where landmarks and pictures do."""
    return None if pictures_of(model.generator) is not None else model.invert


def kept_readouts(
    data: Faces,
    small: Tensor,
    latents: Tensor,
    covariance: Tensor,
    setting: Setting,
    embeddings: Tensor | None,
) -> Tensor:
    """Return (M, D): read-outs of identity, pose and light that are to stay.

    Args:
        data: the faces.
        small: (N, 1, S, S) uint8, the same.
        latents: (N, D) of them.
        covariance: (D, D) of latents.
        setting: see there.
        embeddings: (K, E), of the K of them that are of LFW; None keeps no identity.
    """
    rows = [torch.empty(0, latents.shape[1], dtype=torch.float64)]

    def add(values: Tensor, some: Tensor, count: int, name: str) -> None:
        readout = fit_linear(some, values, setting.ridge)
        explained = 1 - (readout(some) - values).square().sum() / (
            (values - values.mean(0)).square().sum()
        )
        found = leading(readout, covariance, count)
        rows.append(found)
        print(
            f"{name}: {len(found)} read-outs stay; latents explain {float(explained):.2f} of the "
            f"variance over {len(values)} faces"
        )

    if setting.light:
        add(light_of(small), latents, 2, "light")
    if setting.identity and embeddings is not None:
        add(embeddings, latents[named(data)], setting.identity, "identity")
    if setting.pose:
        add(torch.from_numpy(data.pose), latents, 3, "pose")
    return torch.cat(rows)


def named(data: Faces) -> Tensor:
    """Return the places of the faces of LFW, which shows one person several times."""
    return torch.from_numpy(np.flatnonzero(data.origin == LFW))


def fit(
    model: EmotionGANSynthesizer,
    data: Faces,
    latents: Tensor,
    setting: Setting,
    embeddings: Tensor | None,
    pairs: Moves | None,
) -> None:
    """Fill in the mean latent, the linear model, the directions, and the inside of mouths.

    Args:
        model: filled in.
        data: real faces.
        latents: (N, L, W) of them.
        setting: see there.
        embeddings: as `kept_readouts` takes them.
        pairs: None for none.
    """
    flat = latents.flatten(1)
    covariance = torch.from_numpy(shrunk_covariance(flat.double().numpy()))
    if inversion(model) is None:
        model.mean.copy_(latents.mean(0))
    small = at_side(data, model.image_size)
    kept = kept_readouts(data, small, flat, covariance, setting, embeddings)
    matched = None
    if pairs is not None:
        pictures = pictures_of(model.generator)
        if pictures is not None:
            pairs = part_of(pairs, one_sided(pairs, pictures))
        matched = of_expressions(pairs, model.expressions)
    if model.binomial and matched is not None:
        refuse_none(model, matched)
    moves = [covariance] * len(model.expressions)
    if pairs is not None and matched is not None:
        print(
            ", ".join(
                f"{e} {len(m)} pairs" for e, m in zip(model.expressions, matched, strict=True)
            )
        )
        every = torch.cat(matched)
        moves = [likely(there if len(there) else every) for there in matched]
        rows = [int(e) for e in model.expressions]
        model.interiors.copy_(pairs.interior[rows])
    if model.binomial:
        readout, found = fit_pairs(matched, moves, kept, setting)
    else:
        readout = fit_labels(model, data, flat, setting)
        found = torch.stack(
            [
                expression_directions(readout.weight, usual, kept, setting.conditional)[row]
                for row, usual in enumerate(moves)
            ]
        )
    model.directions.copy_(found.view_as(model.directions))
    model.logits.copy_(readout.weight.view_as(model.logits))
    model.constants.copy_(readout.bias)
    gains = (
        [torch.ones(1)] * len(found)
        if matched is None
        else [m @ w for m, w in zip(matched, readout.weight, strict=True)]
    )
    length = torch.tensor([float(g.mean()) for g in gains])
    print("a usual move raises the log odds by", [round(v, 2) for v in length.tolist()])
    model.steps.copy_(length)
    model.levels.copy_(model.odds(model.mean[None])[0] + length)


def refuse_none(model: EmotionGANSynthesizer, matched: list[Tensor]) -> None:
    """Refuse to fit expressions of which there are no pairs."""
    lacking = [str(e) for e, m in zip(model.expressions, matched, strict=True) if not len(m)]
    if lacking:
        raise SystemExit(
            f"no pairs of {', '.join(lacking)}; make some, leave them out, or set model=labels"
        )


def fit_pairs(
    matched: list[Tensor] | None,
    moves: list[Tensor],
    kept: Tensor,
    setting: Setting,
) -> tuple[Readout, Tensor]:
    """Return the regressions of matched pairs, and the directions."""
    if matched is None:
        raise SystemExit("model 'pairs' needs --pairs; 'labels' does without")
    weights = torch.stack([fit_matched(there, setting.penalty) for there in matched])
    each = zip(weights.split(1), moves, strict=True)
    found = torch.cat([own_directions(weight, usual, kept) for weight, usual in each])
    return Readout(weights, torch.zeros(len(weights)).double()), found


def fit_labels(
    model: EmotionGANSynthesizer, data: Faces, latents: Tensor, setting: Setting
) -> Readout:
    """Fit the logistic regression of the labels, each face weighed by how many agree on its."""
    label = torch.from_numpy(data.votes.argmax(1))
    share = torch.from_numpy(data.votes.max(1)).double()
    row = model.row.cpu()[label]
    known = row >= 0
    readout = fit_logistic(latents[known], row[known], share[known], setting.penalty)
    right = readout(latents[known]).argmax(1) == row[known]
    recall = np.mean([float(right[row[known] == r].float().mean()) for r in row[known].unique()])
    print(f"{int(known.sum())} faces; the linear model's recall of its own, balanced: {recall:.3f}")
    return readout


def embeddings_of(data: Faces, encoder: IdentityEncoder) -> Tensor:
    """Return (K, E) identity embeddings of the faces of LFW, on the CPU."""
    faces = data.take(named(data).numpy()).tensor()
    return torch.cat([encoder(part).cpu() for part in faces.split(32)])


def main(
    generator: Annotated[str, typer.Argument(help="Folder, or 'package.module:function'.")],
    data: Annotated[Path, typer.Argument(help="Folder of the sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")],
    pairs: Annotated[Path | None, typer.Option(help="What recipes.pairs.make_pairs wrote.")] = None,
    half: Annotated[int | None, typer.Option(min=0, max=1, help="Of the training faces.")] = None,
    identity: Annotated[
        str, typer.Option(help="'dlib', 'facenet', or 'none': nothing keeps identity then")
    ] = "dlib",
    config: Annotated[Path, typer.Option(help="YAML of settings.")] = CONFIG,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="As identity=4; several.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Of recipes.real_faces.")] = Path("work/real_faces"),
    scratch: Annotated[Path, typer.Option(help="Keeps latents.")] = Path("work/emotiongan"),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    setting = load_settings(Setting, config, option or [])
    scratch.mkdir(parents=True, exist_ok=True)
    on = torch.device(device)
    encoder = None if identity == "none" else create_identity_encoder(identity)
    model = load_generator(generator, setting, on)
    faces = training_faces(data, work, half)
    invert, embeddings = inversion(model), None
    latents = latents_of_faces(model.generator, faces, scratch, invert)
    if encoder is not None:
        file = scratch / f"identity-{digest(f'{half} {len(faces)} {encoder.name}')}.safetensors"
        embeddings = cached(file, lambda: embeddings_of(faces, encoder))
    moves = None
    if pairs is not None:
        moves = moves_of_pairs(model.generator, pairs, scratch, invert)
    fit(model, faces, latents, setting, embeddings, moves)
    model.save_pretrained(out)  # in case what follows is broken off
    model.cpu()
    print_table(calibrate(model, Instrument(data, work), setting.limits, setting.sources))
    model.save_pretrained(out)
    print(f"{out}: {(out / 'model.safetensors').stat().st_size / 1e6:.1f} MB, {model.fingerprint}")


if __name__ == "__main__":
    typer.run(main)
