"""The conditions: what each way of training does with the same real faces and the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torchvision.transforms import v2


@dataclass(frozen=True)
class Condition:
    """One way of training.

    Args:
        name: in results.
        augmentation: one of `augment.AUGMENTATIONS`, done to every face, real or synthetic.
        mixing: "" or "mixup" (Zhang et al. 2018) or "cutmix" (Yun et al. 2019).
        balance: how far the classes are drawn evenly: 0 as often as they are, 1 equally often.
        loss: "cross_entropy", or "balanced" (balanced softmax, Ren et al. 2020: the log of each
            class's share among the draws is added to its logit while training).
        extra: "", or what takes the place of some of the draws: "synthetic", or altered copies of
            real faces, "noise" or "classical".
        mix_alpha: of the Beta distribution that mixing draws from.
    """

    name: str
    augmentation: str = "flip_crop"
    mixing: str = ""
    balance: float = 0.0
    loss: str = "cross_entropy"
    extra: str = ""
    mix_alpha: float = 0.4


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition("none", "none"),
        Condition("flip_crop"),
        Condition("randaugment", "randaugment"),
        Condition("strong", "classical"),
        Condition("mixup", mixing="mixup"),
        Condition("cutmix", mixing="cutmix"),
        Condition("balanced_sampling", balance=1.0),
        Condition("balanced_loss", loss="balanced"),
        Condition("randaugment_balanced", "randaugment", balance=1.0),
        Condition("mixup_balanced", mixing="mixup", balance=1.0),
        Condition("cutmix_balanced", mixing="cutmix", balance=1.0),
        Condition("strong_balanced", "classical", balance=1.0),
        Condition("strong_part_balanced", "classical", balance=0.25),
        Condition("strong_cutmix", "classical", mixing="cutmix"),
        Condition("strong_cutmix_balanced", "classical", mixing="cutmix", balance=1.0),
        Condition("strong_balanced_loss", "classical", loss="balanced"),
        Condition("extra_noise", extra="noise"),
        Condition("extra_classical", extra="classical"),
        Condition("extra_noise_balanced", extra="noise", balance=1.0),
        Condition("extra_classical_balanced", extra="classical", balance=1.0),
        Condition("extra_classical_part_balanced", "classical", extra="classical", balance=0.25),
    )
}
"""Without synthetics. "strong" is flip/crop with turning, scaling, relighting, blur and erasing."""


def parse_condition(text: str, options: Mapping[str, Any] | None = None) -> tuple[Condition, str]:
    """Return the condition that a name stands for, and its synthesizer, "" for none.

    Args:
        text: the name of one of `CONDITIONS`, or that and a synthesizer: "strong+transfer", or
            "strong+FOLDER" with one that was fitted and saved.
        options: fields of `Condition` to set instead.

    Raises:
        ValueError: no such condition.
    """
    base, _, synthesizer = text.partition("+")
    if base not in CONDITIONS:
        raise ValueError(
            f"no condition {base!r}; there are {', '.join(CONDITIONS)}, or NAME+transfer"
        )
    condition = replace(CONDITIONS[base], name=text, **(options or {}))
    return (replace(condition, extra="synthetic") if synthesizer else condition), synthesizer


def mixer(condition: Condition, classes: int) -> v2.Transform | None:
    """Return what mixes a batch of faces and their (B, E) labels, None for nothing."""
    if not condition.mixing:
        return None
    kinds = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
    return kinds[condition.mixing](alpha=condition.mix_alpha, num_classes=classes)
