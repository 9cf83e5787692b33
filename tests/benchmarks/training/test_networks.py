"""The small networks keep one interface, and their seeds are their own."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.training.networks import (
    NETWORKS,
    PROCESSOR_HAS_BFLOAT16,
    SmallCNN,
    SmallResNet,
    in_float32,
    make_network,
)

NAMES = sorted(NETWORKS)


def draw(b, size, seed=0):
    return torch.randn(b, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_of_the_features(name, size):
    network = make_network(name, 7, seed=0, image_size=size).eval()
    x = draw(3, size)
    features = network.features(x)
    assert features.shape == (3, network.head.in_features)
    assert features.dtype == torch.float32
    logits = network(x)
    assert logits.shape == (3, 7)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, features @ network.head.weight.T + network.head.bias)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_draws_the_weights_and_nothing_else(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (make_network(name, 4, seed=s) for s in (1, 1, 2))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_in_float32_agrees_and_leaves_the_network_alone(name):
    network = make_network(name, 4, seed=0)
    network(draw(16, 32))  # statistics of the batch norms
    before = copy.deepcopy(network.state_dict())
    twin = in_float32(network)
    assert network.training
    assert not twin.training
    x = draw(5, 32, seed=1)
    exact, rounded = twin(x), network.eval()(x)
    torch.testing.assert_close(exact, rounded, rtol=0.1, atol=0.1)
    if network.low_precision and PROCESSOR_HAS_BFLOAT16:
        assert not torch.equal(exact, rounded)
    # In float32 an image does not depend on those beside it.
    torch.testing.assert_close(exact[:1], twin(x[:1]), rtol=1e-4, atol=1e-5)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_vit_sees_where_a_patch_is():
    vit = make_network("vit", 4, seed=0).eval()
    x = draw(1, 32)
    moved = x.roll(8, dims=3)
    assert not torch.allclose(vit(x), vit(moved), atol=1e-4)
    with torch.no_grad():
        vit.positions.zero_()
    torch.testing.assert_close(vit(x), vit(moved), rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_torch():
    attention = make_network("vit", 4, seed=0).blocks[0].attend[1]
    tokens = torch.randn(2, 5, 96, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.MultiheadAttention(96, attention.n_heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(attention.qkv.weight)
        theirs.in_proj_bias.copy_(attention.qkv.bias)
        theirs.out_proj.weight.copy_(attention.out.weight)
        theirs.out_proj.bias.copy_(attention.out.bias)
    expected, _ = theirs(tokens, tokens, tokens)
    torch.testing.assert_close(attention(tokens), expected, rtol=1e-4, atol=1e-5)


def test_widths_and_depth():
    assert SmallCNN(3, width=8).head.in_features == 32
    assert SmallResNet(3, width=8).head.in_features == 32
    convolutions = [
        m for m in SmallResNet().modules()
        if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    ]  # fmt: skip
    assert len(convolutions) == 7  # and the head: eight layers


def test_what_is_wrong_is_said():
    with pytest.raises(
        ValueError, match=r"`name` must be one of cnn, cnn-wide, resnet, resnet-wide"
    ):
        make_network("lstm", 3, seed=0)
    with pytest.raises(ValueError, match=r"multiple of the patch, 8; got 28"):
        make_network("vit", 3, seed=0, image_size=28)
