import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from expraug.training.discriminator import ProjectionDiscriminator


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    # spectral norm's vectors stand still in evaluation mode
    net = ProjectionDiscriminator(2, categories=3, width=4, halvings=3).double().eval()
    names, weights = zip(*net.named_parameters(), strict=True)
    faces = torch.rand(3, 2, 16, 16, dtype=torch.float64, requires_grad=True)
    category = torch.arange(3)
    assert torch.autograd.gradcheck(
        lambda x, *w: functional_call(net, dict(zip(names, w, strict=True)), (x, category)),
        (faces, *weights),
        fast_mode=True,
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 2), st.sampled_from([32, 48, 64]), st.integers(2, 4))
def test_one_output_a_patch_which_depends_on_the_category(
    seed: int, channels: int, size: int, halvings: int
) -> None:
    torch.manual_seed(seed)
    net = ProjectionDiscriminator(channels, categories=4, width=8, halvings=halvings).eval()
    faces = torch.rand(1, channels, size, size).expand(4, -1, -1, -1)
    out = net(faces, torch.arange(4))
    assert out.shape == (4, 1, size // 2**halvings, size // 2**halvings)
    assert out.mean((1, 2, 3)).unique().numel() == 4
    # what the category adds is the same for all patches of a face
    assert torch.allclose((out[1:] - out[:1]).std((1, 2, 3)), torch.zeros(3), atol=1e-5)


def test_every_layer_stays_near_spectral_norm_one() -> None:
    torch.manual_seed(0)
    net = ProjectionDiscriminator(1, categories=4, width=8)
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(30)  # as if it had grown in training
        for _ in range(200):
            net(torch.rand(2, 1, 64, 64), torch.tensor([0, 3]))
    layers = [m for m in net.modules() if is_parametrized(m)]
    assert len(layers) == 6
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert abs(float(norm) - 1) < 0.02
