"""How far synthesizers go, on real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from expraug import Expression, create_synthesizer
from expraug.evaluate.landmarks import Landmarks
from expraug.synthesizer import Synthesizer
from recipes.strength.calibrate import (
    BRIGHTEST,
    LIGHTS,
    SHAPES,
    Limits,
    Tried,
    calibrate,
    choose,
    main,
    search,
)
from recipes.strength.codes import choose_codes, each_with_all
from recipes.strength.instrument import Instrument, Seen, make, people_of
from recipes.strength.seen import SIX, ratios_of, two_sided

HAPPY, SURPRISE = Expression.HAPPY, Expression.SURPRISE


def tried(shape: float, pictures: float, landmarks: float, exaggerated: float = 0.0) -> Tried:
    return Tried(shape, 1.0, np.array([pictures, landmarks]), exaggerated)


def test_the_weakest_of_the_best_within_the_limit() -> None:
    rows = [tried(1, 0.3, 0.3), tried(2, 0.79, 0.8), tried(3, 0.8, 0.8), tried(4, 0.9, 1, 0.2)]

    def score(one: Tried) -> float:
        return float(one.scores().mean())

    assert choose(rows, score, 0.1).shape == 2, "hardly worse, and weaker"
    assert choose(rows, score, 0.2).shape == 4
    assert choose([tried(1, 0.3, 0.3, 0.5), tried(2, 1, 1, 0.6)], score, 0.1).shape == 1
    assert tried(1, 2.0, 0.5).scores().tolist() == [0.5, 0.5], "too much is as wrong as too little"


def test_landmarks_choose_the_shape_and_pictures_the_light() -> None:
    asked = []

    def measure(shape: float, light: float) -> Tried:
        asked.append((shape, light))
        return Tried(shape, light, np.array([light / 0.5, shape / 1.15]), 0.0)

    best = search(measure, Limits(0.1))
    lights = [BRIGHTEST * share for share in LIGHTS]
    assert (best.shape, best.light) == (1.15, lights[0])
    assert asked[: len(SHAPES)] == [(s, lights[1]) for s in SHAPES]
    rest = [(1.15, light) for light in lights if light != lights[1]]
    assert asked[len(SHAPES) : len(SHAPES) + len(rest)] == rest, "nothing is looked at twice"
    assert len(set(asked)) == len(asked)


def test_no_shape_beyond_the_largest_is_tried() -> None:
    asked = []

    def measure(shape: float, light: float) -> Tried:
        asked.append(shape)
        return Tried(shape, light, np.array([1.0, shape / 1.35]), 0.0)

    assert search(measure, Limits(0.1, largest=1.0)).shape == 1.0
    assert max(asked) == 1.0


def test_real_faces_are_seen_as_what_they_show(instrument: Instrument) -> None:
    real = instrument.real(HAPPY)
    assert real.recall.min() > 0.5
    assert (real.clarity > 0.5).all()
    faces = instrument.named.take(np.flatnonzero(instrument.named.expression == int(HAPPY)))
    seen = instrument.measure(faces.tensor(), people_of(faces))
    assert seen.recall(SURPRISE).max() < 0.5
    assert torch.allclose(seen.probabilities.sum(2), torch.ones(()), atol=1e-4)
    assert len(real.landmarks.people) >= 2 * len(faces), "of both sets"
    assert instrument.ratios(seen, HAPPY) == pytest.approx(seen.recall(HAPPY) / real.recall)


def test_sets_with_few_faces_say_little(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = iter((0.0, 1.0))

    def measure(faces: torch.Tensor, people: list[str]) -> Seen:
        told = torch.zeros(2, len(faces), 8)
        told[:, :, int(HAPPY)] = next(shown)
        return Seen(told + 1e-3, Landmarks(np.zeros((len(faces), 478, 3)), people))

    monkeypatch.setattr(instrument, "measure", measure)
    monkeypatch.setattr(instrument, "_real", {})
    monkeypatch.setattr("recipes.strength.instrument.ENOUGH", 2)
    assert instrument.real(HAPPY).clarity == pytest.approx([0.5, 0.5], abs=0.01), "each as much"


def model_of(name: str, *expressions: Expression) -> Synthesizer:
    model = create_synthesizer(name).eval().requires_grad_(False)
    model.expressions = expressions
    return model


def test_strengths_are_those_that_are_seen(instrument: Instrument) -> None:
    model = model_of("decoupled", Expression.NEUTRAL, HAPPY)
    strength = model.get_buffer("strength")
    sources = instrument.sources(HAPPY, 3)
    changes = []
    for far in (0.02, 1.0):
        strength[1] = far
        changes.append((make(model, sources, HAPPY) - sources.tensor()).abs().mean())
    assert changes[0] < 0.3 * changes[1]
    before = strength[0].clone()
    lines = calibrate(model, instrument, Limits(1.0), 3, [HAPPY])
    assert [line[""] for line in lines] == ["happy"]
    assert torch.equal(strength[0], before), "only what was asked for"
    assert strength[1, 0] in torch.tensor(SHAPES)
    shares = strength[1, 1] / BRIGHTEST - torch.tensor(LIGHTS)
    assert shares.abs().min() < 1e-4
    assert float(lines[0]["shape"]) == pytest.approx(float(strength[1, 0]))
    assert float(lines[0]["pictures"]) > 0


def test_codes_that_show_it_are_kept(instrument: Instrument) -> None:
    model = model_of("unet_cgan", *Expression)
    own = model.get_buffer("codes")
    assert own.shape[1] == model.variants > 1
    model.expressions = tuple(Expression)
    good = own[:, :2].clone()
    model.codes, model.variants = good, 2
    blank = torch.full_like(good, 30.0)  # codes of nothing
    lines = choose_codes(model, torch.cat([blank, good], 1), instrument, 2)
    assert model.variants == 2
    assert model.codes.shape == good.shape
    assert torch.equal(model.codes[0], blank[0]), "neutral has nothing to vary"
    happy = model.codes[int(HAPPY)]
    assert torch.cdist(happy, good[int(HAPPY)]).amin(1).max() < 1e-3
    told = {line[""]: line for line in lines}
    assert "neutral" not in told
    assert float(told["happy"]["kept"]) > float(told["happy"]["all"])


def test_each_face_is_given_all_codes(instrument: Instrument) -> None:
    real = instrument.named
    both = each_with_all(real.take(np.arange(2)), 3)
    assert people_of(both) == [name for name in people_of(real)[:2] for _ in range(3)]


def test_ratios_are_of_faces_that_come_later(instrument: Instrument) -> None:
    model = create_synthesizer("pixel").eval().requires_grad_(False)
    model.expressions = (HAPPY,)
    found = ratios_of(model, instrument, 2, 3)
    assert list(found) == [HAPPY]
    assert found[HAPPY].shape == (2,)
    assert found[HAPPY].max() > 0
    assert two_sided({e: np.array([2.0, 0.5]) for e in SIX}) == pytest.approx([0.5, 0.5])
    assert two_sided({HAPPY: np.array([1.0, 2.0])}) == pytest.approx([1 / 6, 1 / 12])


def test_what_has_no_strength_is_refused() -> None:
    with pytest.raises(SystemExit, match="transfer has no strength"):
        main(Path("transfer"), Path())
