"""Directions of change in a space of latents: what moves one read-out and leaves others.

A generalised linear model (`fit_logistic`) reads the expression off a latent. Its weights are a
filter, not a direction: to cancel what is common to all latents they lean on dimensions in which
latents hardly differ, and a latent moved along them is that of no face (Haufe et al. 2014). So of
all moves that raise the read-out as asked, we take the least unlikely one: with latents of
covariance S, the move d that minimises d' S⁻¹ d subject to A d = t, which is d = S A' (A S A')⁻¹ t.
The rows of A are whatever is to change or to stay: the expressions, identity, pose, light.

Everything is computed in float64; latents are flat here, (N, D).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expraug.errors import MissingDependencyError

_RANK = 1e-9  # singular values below this share of the largest one count as none


@dataclass(frozen=True)
class Readout:
    """An affine function of latents.

    Args:
        weight: (K, D) float64.
        bias: (K,) float64.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """Return (N, K) values for (N, D) latents."""
        return latents.to(self.weight.dtype) @ self.weight.T + self.bias


def fit_logistic(
    latents: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    strength: float = 1.0,
    iterations: int = 300,
) -> Readout:
    """Fit a multinomial logistic regression, every class weighing the same.

    Args:
        latents: (N, D) float.
        labels: (N,) long, 0 to K - 1, each of them at least once.
        weights: (N,) float, at least 0: how sure each label is. None: all alike.
        strength: of the L2 penalty on the weights of standardised latents, in faces: it weighs as
            the losses of so many.
        iterations: of the solver at most.

    Returns:
        K logits, up to a constant that they share.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        ValueError: a class without faces, or of no weight.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingDependencyError(
            "fitting directions needs scikit-learn: pip install 'expraug[train]'"
        ) from error
    x = latents.double()
    own = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    classes = int(labels.max()) + 1
    sums = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, own)
    if classes < 2 or (sums <= 0).any():
        raise ValueError(
            f"every class needs faces of some weight, and there must be two: the {classes} classes "
            f"weigh {[round(s, 3) for s in sums.tolist()]}"
        )
    own = own * (len(x) / classes / sums)[labels]
    mean = x.mean(0)
    scale = x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    model = LogisticRegression(C=1 / strength, max_iter=iterations)
    model.fit(((x - mean) / scale).numpy(), labels.numpy(), sample_weight=own.numpy())
    coefficients = np.asarray(model.coef_)
    if classes == 2:  # scikit-learn then gives the second class's log odds alone
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        constants = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        constants = model.intercept_
    weight = torch.from_numpy(coefficients) / scale
    return Readout(weight, torch.from_numpy(constants) - weight @ mean)


def fit_matched(moves: Tensor, strength: float = 1.0, iterations: int = 300) -> Tensor:
    """Fit a conditional logistic regression of matched pairs (Breslow & Day 1980, chapter 7).

    Of two faces of one person, which one shows the expression? What the pair has in common, who it
    is above all, drops out: only the difference of their latents counts.

    Args:
        moves: (N, D) float, latents of faces that show it minus those of the other face.
        strength, iterations: as `fit_logistic` takes them.

    Returns:
        (D,) float64, the weights: there is no constant.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
        ValueError: no pairs.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingDependencyError(
            "fitting directions needs scikit-learn: pip install 'expraug[train]'"
        ) from error
    if not len(moves):
        raise ValueError("no pairs to fit a direction to")
    x = moves.double()
    scale = x.square().mean(0).sqrt()
    x = x / torch.where(scale > 0, scale, 1.0)
    # each pair there and back: the solver wants both answers
    model = LogisticRegression(C=1 / strength, max_iter=iterations, fit_intercept=False)
    model.fit(torch.cat([x, -x]).numpy(), np.repeat([1, 0], len(x)))
    return torch.from_numpy(np.asarray(model.coef_))[0] / torch.where(scale > 0, scale, 1.0)


def fit_linear(latents: Tensor, values: Tensor, ridge: float = 0.1) -> Readout:
    """Fit values by ridge regression.

    Args:
        latents: (N, D) float.
        values: (N, K) float: an embedding, angles of the head, light.
        ridge: penalty on the squared weights of standardised latents, as a share of N.
    """
    x, y = latents.double(), values.double()
    mean, middle = x.mean(0), y.mean(0)
    scale = x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    gram = z.T @ z / len(z)
    gram.diagonal().add_(ridge)
    weight = torch.linalg.solve(gram, z.T @ (y - middle) / len(z)).T / scale
    return Readout(weight, middle - weight @ mean)


def leading(readout: Readout, covariance: Tensor, count: int) -> Tensor:
    """Return the combinations of a read-out that vary most over latents.

    Of an identity embedding of a hundred numbers, what latents can say is a few combinations of
    them (reduced-rank regression, Izenman 1975).

    Args:
        covariance: (D, D) of latents.
        count: how many at most.

    Returns:
        (count, D) float64, each of variance 1 over latents and uncorrelated with the others.
    """
    spread = readout.weight @ covariance.double() @ readout.weight.T
    values, vectors = torch.linalg.eigh(spread)
    keep = values.flip(0) > values[-1] * _RANK
    order = torch.arange(len(values) - 1, -1, -1)[keep][:count]
    leading: Tensor = (vectors[:, order] / values[order].sqrt()).T @ readout.weight
    return leading


def least_move(covariance: Tensor, rows: Tensor, amounts: Tensor) -> Tensor:
    """Return the least unlikely move that changes linear read-outs by given amounts.

    Args:
        covariance: S, (D, D), positive definite.
        rows: A, (K, D); they may depend on each other.
        amounts: t, (K,).

    Returns:
        (D,) float64: of all d with A d = t, the one that minimises d' S⁻¹ d.

    Raises:
        ValueError: the amounts contradict each other, or the covariance is singular.
    """
    root, failed = torch.linalg.cholesky_ex(covariance.double())
    if failed:
        raise ValueError("the covariance of the latents must be positive definite: shrink it more")
    a, t = rows.double(), amounts.double()
    # scaled to variance 1 over latents, so that units do not decide which of the rows is nothing
    size = (a @ root).norm(dim=1)
    if bool(((size == 0) & (t != 0)).any()):
        raise ValueError("a read-out that no latent changes cannot be moved")
    size = torch.where(size > 0, size, 1.0)
    a, t = a / size[:, None], t / size
    whitened = torch.linalg.pinv(a @ root, rtol=_RANK) @ t
    move: Tensor = root @ whitened
    if not torch.allclose(a @ move, t, rtol=1e-6, atol=1e-6 * float(t.abs().max())):
        raise ValueError(
            "no move changes these read-outs by these amounts: they depend on each other. Keep "
            "fewer of them"
        )
    return move


def expression_directions(
    logits: Tensor, covariance: Tensor, kept: Tensor | None = None, conditional: bool = True
) -> Tensor:
    """Return the direction of each class.

    Args:
        logits: (K, D), the weights of `fit_logistic`.
        covariance: (D, D) of latents, shrunk.
        kept: (M, D), read-outs that stay as they are.
        conditional: each of the others' logits stays, against one another; else only their mean.

    Returns:
        (K, D) float64. Along row k, logit k rises by one against each of the other logits (against
        their mean, unless `conditional`).
    """
    count, width = logits.shape
    still = logits.new_empty(0, width).double() if kept is None else kept.double()
    found = []
    for own in range(count):
        others = torch.cat([logits[:own], logits[own + 1 :]]).double()
        if not conditional:
            others = others.mean(0, keepdim=True)
        rows = torch.cat([logits[own].double() - others, still])
        amounts = torch.zeros(len(rows), dtype=torch.float64)
        amounts[: len(others)] = 1
        found.append(least_move(covariance, rows, amounts))
    return torch.stack(found)


def own_directions(logits: Tensor, covariance: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the direction of each of several read-outs that have nothing to do with each other.

    Args:
        logits: (K, D), the log odds of each class by itself.
        covariance, kept: as `expression_directions` takes them.

    Returns:
        (K, D) float64. Along row k, logit k rises by one.
    """
    still = logits.new_empty(0, logits.shape[1]) if kept is None else kept
    amounts = torch.zeros(1 + len(still), dtype=torch.float64)
    amounts[0] = 1
    return torch.stack(
        [
            least_move(covariance, torch.cat([own[None].double(), still.double()]), amounts)
            for own in logits
        ]
    )


def log_odds(logits: Tensor) -> Tensor:
    """Return, for (…, K) logits, that of each class's probability: (…, K)."""
    count = logits.shape[-1]
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    others = logits[..., None, :].expand(*logits.shape, count).masked_fill(own, -torch.inf)
    return logits - others.logsumexp(-1)
