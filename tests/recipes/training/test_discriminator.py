import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from recipes.training.discriminator import (
    GrownDiscriminator,
    ProjectionDiscriminator,
    VideoDiscriminator,
)


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


CHANNELS = (16, 16, 8, 4)  # at 4, 8, 16 and 32 pixels


def grown(train: bool = False) -> GrownDiscriminator:
    torch.manual_seed(0)
    return GrownDiscriminator(CHANNELS).train(train)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from([4, 8, 16, 32]), st.integers(2, 5), st.floats(0.05, 1)
)
def test_one_output_a_face_at_every_side(seed: int, side: int, count: int, fade: float) -> None:
    torch.manual_seed(seed)
    out = grown()(torch.rand(count, 1, side, side), fade)
    assert out.shape == (count,)
    assert out.isfinite().all()
    assert out.unique().numel() == count


@pytest.mark.parametrize("side", [8, 16, 32])
def test_what_is_not_faded_in_does_not_count(side: int) -> None:
    net, faces = grown(), torch.rand(3, 1, side, side)
    small = F.avg_pool2d(faces, 2)
    assert torch.allclose(net(faces, 0.0), net(small), atol=1e-5)
    assert not torch.allclose(net(faces, 1.0), net(small), atol=1e-5)
    # detail that the half resolution does not have
    detail = 0.1 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(side // 2, side // 2)
    assert torch.allclose(net(faces + detail, 0.0), net(faces, 0.0), atol=1e-5)
    assert not torch.allclose(net(faces + detail, 0.5), net(faces, 0.5), atol=1e-5)


def test_a_batch_that_does_not_vary_is_found_out() -> None:
    net = grown()
    faces = torch.rand(4, 1, 16, 16)
    among_others = net(faces)[0]
    alike = net(faces[:1].expand(4, -1, -1, -1))
    assert torch.allclose(alike, alike[:1].expand(4), atol=1e-5)
    assert not torch.allclose(among_others, alike[0], atol=1e-5)
    assert torch.allclose(net(faces.flip(0)).flip(0), net(faces), atol=1e-5), "order tells nothing"


@pytest.mark.parametrize("fade", [0.4, 1.0])
def test_gradients_of_the_grown_one_are_those_of_finite_differences(fade: float) -> None:
    torch.manual_seed(0)
    net = GrownDiscriminator((6, 4, 3)).double().eval()
    used = ("grey.2", "blocks", "last", "real") + (("grey.1",) if fade < 1 else ())
    names, weights = zip(
        *((n, w) for n, w in net.named_parameters() if n.startswith(used)), strict=True
    )
    faces = torch.rand(3, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *w: functional_call(net, dict(zip(names, w, strict=True)), (x, fade)),
        (faces, *weights),
        fast_mode=True,
    )


def test_gradients_reach_the_layers_of_the_stage_and_no_others() -> None:
    net = grown(train=True)
    (net(torch.rand(3, 1, 16, 16), 0.5) * torch.tensor([1.0, -2, 3])).sum().backward()
    reached = {n for n, w in net.named_parameters() if w.grad is not None and w.grad.any()}
    idle = ("grey.0", "grey.3", "blocks.2")
    assert reached == {n for n, _ in net.named_parameters() if not n.startswith(idle)}


def test_the_grown_one_stays_near_spectral_norm_one() -> None:
    net = grown(train=True)
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(30)
        for _ in range(200):
            net(torch.rand(2, 1, 32, 32), 0.5)
    layers = [
        m for n, m in net.named_modules() if is_parametrized(m) and n not in ("grey.0", "grey.1")
    ]
    assert len(layers) == 2 + 3 * 3 + 2
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert abs(float(norm) - 1) < 0.02


def test_biases_start_at_nothing() -> None:
    for net in (grown(), ProjectionDiscriminator(1, categories=3, width=8)):
        biases = [w for n, w in net.named_parameters() if n.endswith("bias")]
        assert len(biases) > 4
        assert not any(b.any() for b in biases)


@pytest.mark.parametrize(("frames", "size"), [(8, 32), (16, 64)])
def test_clips_are_judged_by_category_and_by_the_order_of_their_frames(
    frames: int, size: int
) -> None:
    torch.manual_seed(0)
    net = VideoDiscriminator(categories=4, width=8).eval()
    clips = torch.rand(1, frames, 1, size, size).expand(4, -1, -1, -1, -1)
    out = net(clips, torch.arange(4))
    assert out.shape == (4, frames // 8, size // 16, size // 16)
    assert out.mean((1, 2, 3)).unique().numel() == 4
    assert torch.allclose((out[1:] - out[:1]).std((1, 2, 3)), torch.zeros(3), atol=1e-5)
    backwards = net(clips.flip(1), torch.arange(4))
    assert not torch.allclose(out.mean((1, 2, 3)), backwards.mean((1, 2, 3)), atol=1e-5)
    layers = [m for m in net.modules() if is_parametrized(m)]
    assert len(layers) == 3 + 3 + 2
    assert all(not m.bias.any() for m in layers if getattr(m, "bias", None) is not None)
