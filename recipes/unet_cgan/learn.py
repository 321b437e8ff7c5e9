"""The training of `unet_cgan`, from data that have been read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from expraug.expressions import Expression
from expraug.networks.fer_classifier import FERNet
from expraug.synthesizer import Synthesizer
from expraug.synthesizers.unet_cgan import UNetCGANSynthesizer
from recipes.pairs.made import Pairs
from recipes.pairs.watching import expression_net
from recipes.training.loop import RunOptions, run
from recipes.training.loss_networks import LossNetworks
from recipes.unet_cgan.data import CodedPairs, Draw, Singles
from recipes.unet_cgan.trainer import Options, Trainer
from recipes.unet_cgan.watching import watch

CATEGORIES = tuple(Expression)
Net = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What the YAML file says.

    Args:
        size, width, variants, code: of the net, as `UNetCGANSynthesizer` takes them.
        steps: of training.
        pairs, unpaired: faces of a batch with and without a pair.
        singles: single faces, at most.
        report_every: steps between two lines of the log, two contact sheets and two states.
        seed: of weights and draws.
        options: of the trainer.
    """

    size: int = 128
    width: int = 32
    variants: int = 16
    code: int = 12
    steps: int = 4000
    pairs: int = 16
    unpaired: int = 8
    singles: int = 12000
    report_every: int = 200
    seed: int = 0
    options: Options = field(default_factory=Options)


def learn(
    setting: Setting,
    pairs: Pairs,
    singles: Singles,
    classifiers: Sequence[FERNet],
    encoder: nn.Module,
    run_options: RunOptions,
    start: Path | None = None,
) -> None:
    """Train, and write the weights at each report.

    Args:
        setting: see there.
        pairs, singles: what is learned from.
        classifiers: nets that are asked what faces show.
        encoder: tells who a face is.
        run_options: where, and for how long.
        start: folder of weights of the same shape to start from.
    """
    device = run_options.device
    torch.manual_seed(setting.seed)
    names = [str(c) for c in CATEGORIES]
    shape = names, setting.size, setting.width, setting.variants, setting.code
    model, learning = (UNetCGANSynthesizer(*shape) for _ in range(2))
    if start is not None:
        known = Synthesizer.from_pretrained(start)
        assert isinstance(known, UNetCGANSynthesizer)
        learning.generator.load_state_dict(known.generator.state_dict())
    coded = CodedPairs(pairs, setting.code)
    draw = Draw(coded, singles, setting.pairs, setting.unpaired, device)
    print(f"{int(coded.trained.sum())} pairs, {len(singles.category)} single faces", flush=True)
    model.codes.copy_(coded.bank(setting.variants, setting.seed))
    model.to(device).eval().requires_grad_(False)
    nets = [expression_net(net.to(device).requires_grad_(False), CATEGORIES) for net in classifiers]
    trainer = Trainer(
        learning.generator,
        len(names),
        setting.options,
        setting.steps,
        LossNetworks(encoder.to(device).requires_grad_(False), one_of(nets)),
        coded.importance(),
        device,
    )

    def report(done: int) -> dict[str, float]:
        model.generator.load_state_dict(trainer.average.state_dict())
        model.save_pretrained(run_options.out)
        return watch(model, coded, nets, run_options.sheet(done))

    run(
        trainer,
        lambda: trainer.step(draw()),
        report,
        run_options,
        steps=setting.steps,
        every=setting.report_every,
        seed=setting.seed,
    )


def one_of(nets: Sequence[Net]) -> Net | None:
    """Return what asks one of the nets, each time another: what pleases all of them pleases none
    of them by chance."""
    if not nets:
        return None
    return lambda faces: nets[int(torch.randint(len(nets), ()))](faces)
