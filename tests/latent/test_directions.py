"""Directions of change: read-outs move as asked, others stay, and no likelier move does it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from expraug.latent.directions import (
    Readout,
    expression_directions,
    fit_linear,
    fit_logistic,
    fit_matched,
    leading,
    least_move,
    log_odds,
    own_directions,
)


def problem(seed: int, width: int = 12, rows: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Return a covariance with a wide range of variances, read-outs and amounts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    axes = torch.linalg.qr(draw(width, width))[0]
    variances = torch.logspace(-3, 2, width, dtype=torch.float64)
    return (axes * variances) @ axes.T, draw(rows, width), draw(rows)


seeds = st.integers(0, 2**31)


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(1, 8))
def test_the_read_outs_move_as_asked_and_no_likelier_move_does_it(seed: int, rows: int) -> None:
    covariance, a, t = problem(seed, rows=rows)
    move = least_move(covariance, a, t)
    torch.testing.assert_close(a @ move, t, rtol=1e-8, atol=1e-8)
    # whatever else moves nothing that is asked about costs more: it is at a right angle
    nothing = torch.linalg.svd(a)[2][rows:]
    cross = nothing @ torch.linalg.solve(covariance, move)
    assert cross.abs().max() < 1e-6 * torch.linalg.solve(covariance, move).norm()


def test_the_closed_form() -> None:
    covariance, a, t = problem(0)
    expected = covariance @ a.T @ torch.linalg.solve(a @ covariance @ a.T, t)
    torch.testing.assert_close(least_move(covariance, a, t), expected, rtol=1e-6, atol=1e-9)


def test_rows_may_depend_on_each_other_unless_they_contradict() -> None:
    covariance, a, t = problem(1)
    again = torch.cat([a, a[:1] * 2])
    same = least_move(covariance, again, torch.cat([t, t[:1] * 2]))
    torch.testing.assert_close(same, least_move(covariance, a, t), rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match="depend on each other"):
        least_move(covariance, again, torch.cat([t, t[:1] * 2 + 1]))
    with pytest.raises(ValueError, match="no latent changes"):
        least_move(covariance, a * 0, t)
    with pytest.raises(ValueError, match="shrink it more"):
        least_move(covariance * 0, a, t)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 6), st.integers(0, 4), st.booleans())
def test_one_logit_rises_and_what_is_kept_stays(
    seed: int, classes: int, still: int, conditional: bool
) -> None:
    covariance, rows, _ = problem(seed, width=16, rows=classes + still)
    logits, kept = rows[:classes], rows[classes:]
    found = expression_directions(logits, covariance, kept, conditional)
    assert found.shape == (classes, 16)
    assert found.dtype == torch.float64
    torch.testing.assert_close(kept @ found.T, torch.zeros(still, classes).double())
    change = logits @ found.T  # of each logit, along each direction
    for own in range(classes):
        others = torch.cat([change[:own, own], change[own + 1 :, own]])
        assert float(change[own, own] - others.mean()) == pytest.approx(1, abs=1e-6)
        if conditional:
            torch.testing.assert_close(change[own, own] - others, torch.ones(classes - 1).double())


def test_what_is_kept_makes_the_move_less_likely_and_other_logits_too() -> None:
    covariance, rows, _ = problem(2, width=16, rows=8)
    logits, kept = rows[:5], rows[5:]

    def cost(directions: Tensor) -> Tensor:
        return (directions * torch.linalg.solve(covariance, directions.T).T).sum(1)

    free = cost(expression_directions(logits, covariance, None, conditional=False))
    conditional = cost(expression_directions(logits, covariance))
    both = cost(expression_directions(logits, covariance, kept))
    assert (free < conditional).all()
    assert (conditional < both).all()


def test_own_directions_raise_their_own_read_out_alone() -> None:
    covariance, rows, _ = problem(6, width=16, rows=7)
    logits, kept = rows[:4], rows[4:]
    found = own_directions(logits, covariance, kept)
    torch.testing.assert_close((logits * found).sum(1), torch.ones(4).double())
    torch.testing.assert_close(kept @ found.T, torch.zeros(3, 4).double())
    # nothing is said of the others, so nothing is likelier than a single read-out's own move
    single = covariance @ logits[0] / (logits[0] @ covariance @ logits[0])
    torch.testing.assert_close(own_directions(logits, covariance)[0], single)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_log_odds_are_those_of_the_probabilities_and_rise_with_the_direction(seed: int) -> None:
    covariance, logits, _ = problem(seed, rows=4)
    latents = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed)).double()
    values = latents @ logits.T
    odds = log_odds(values)
    torch.testing.assert_close(odds.sigmoid(), values.softmax(1))
    moved = latents + 2.5 * expression_directions(logits, covariance)[2]
    after = log_odds(moved @ logits.T)
    torch.testing.assert_close(after[:, 2], odds[:, 2] + 2.5, rtol=1e-6, atol=1e-6)


def classes(count: int, per_class: int = 200) -> tuple[Tensor, Tensor]:
    """Gaussian classes whose means differ along the first axes; the last is noise and no more.

    That noise is in the first axis, too, where a filter would cancel it by means of the last.
    """
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count).repeat_interleave(per_class)
    x = torch.randn(len(labels), 6, generator=generator).double() * 0.5
    x[torch.arange(len(labels)), labels] += 2.0
    noise = 3 * torch.randn(len(labels), generator=generator).double()
    x[:, 0] += noise
    x[:, 5] = noise
    return x, labels


def test_the_direction_is_that_of_the_means_and_not_the_filter() -> None:
    x, labels = classes(3, 3000)
    readout = fit_logistic(x, labels, strength=1e-3)
    assert (readout(x).argmax(1) == labels).double().mean() > 0.97
    covariance = torch.cov(x.T)
    found = expression_directions(readout.weight, covariance, conditional=False)
    means = torch.stack([x[labels == k].mean(0) for k in range(3)])
    for own in range(3):
        others = torch.cat([means[:own], means[own + 1 :]]).mean(0)
        wanted = means[own] - others
        like = torch.cosine_similarity(found[own], wanted, dim=0)
        raw = readout.weight[own] - torch.cat(
            [readout.weight[:own], readout.weight[own + 1 :]]
        ).mean(0)
        assert like > 0.97
        assert torch.cosine_similarity(raw, wanted, dim=0) < like


def test_every_class_weighs_the_same_and_weights_count() -> None:
    x, labels = classes(2)
    few = torch.cat([torch.arange(200), torch.arange(200, 210)])
    readout = fit_logistic(x[few], labels[few], strength=1.0)
    both = readout(x).diff(dim=1)[:, 0]
    # the threshold lies between the classes, not at the rare one
    assert abs(float(both[labels == 0].mean() + both[labels == 1].mean())) < 4
    wrong = labels.clone()
    wrong[:150] = 1
    weights = torch.ones(400)
    weights[:150] = 0
    sure = fit_logistic(x, wrong, weights)
    torch.testing.assert_close(
        sure.weight, fit_logistic(x[150:], labels[150:]).weight, rtol=0.2, atol=0.2
    )
    assert (sure(x).argmax(1) == labels).double().mean() > 0.95
    with pytest.raises(ValueError, match="every class needs faces"):
        fit_logistic(x, labels * 2)
    with pytest.raises(ValueError, match="every class needs faces"):
        fit_logistic(x, labels, (labels == 0).double())


def test_linear_read_outs_and_the_combinations_that_vary_most() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(500, 5, generator=generator).double() * torch.tensor([5.0, 1, 1, 1, 1])
    true = torch.zeros(3, 5).double()
    true[0, 0], true[1, 1], true[2, 1] = 1, 0.5, 0.5
    values = x @ true.T + 7
    readout = fit_linear(x, values, ridge=1e-9)
    torch.testing.assert_close(readout.weight, true, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(readout(x), values, rtol=1e-5, atol=1e-5)
    assert fit_linear(x, values, ridge=1.0).weight.norm() < 0.8 * true.norm()
    covariance = torch.cov(x.T)
    found = leading(readout, covariance, 5)
    assert found.shape == (2, 5), "three values, two of which are one"
    torch.testing.assert_close(found @ covariance @ found.T, torch.eye(2).double())
    assert found[0].abs().argmax() == 0
    torch.testing.assert_close(leading(readout, covariance, 1), found[:1])
    assert isinstance(readout, Readout)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_matched_pairs_point_to_what_sets_them_apart(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    apart = torch.randn(6, generator=generator, dtype=torch.float64)
    apart = apart / apart.norm()
    # never so far apart that hardly a pair is told wrongly: the length is then anybody's guess
    spread = torch.tensor([0.8, 1, 2, 0.8, 1, 3], dtype=torch.float64)
    noise = torch.randn(4000, 6, generator=generator, dtype=torch.float64)
    moves = apart + noise * spread
    weight = fit_matched(moves, strength=1e-3)
    # with normal moves the log odds are those of the two means, whose covariance is known
    expected = 2 * apart / spread.square()
    assert torch.cosine_similarity(weight, expected, dim=0) > 0.97
    assert float(weight @ expected / expected.square().sum()) == pytest.approx(1, abs=0.2)
    torch.testing.assert_close(fit_matched(-moves, strength=1e-3), -weight, rtol=1e-3, atol=1e-3)


def test_a_direction_needs_pairs() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        fit_matched(torch.zeros(0, 3))
