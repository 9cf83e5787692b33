"""Training learns what it is shown, in an order that the seed draws."""

from __future__ import annotations

import copy
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.training import training
from benchmarks.training.networks import NETWORKS, Network, make_network
from benchmarks.training.training import (
    accuracy,
    augment,
    class_accuracies,
    fine_tune,
    learning_rate,
    optimizer_for,
    predict,
    to_input,
    train,
)
from tests.benchmarks.toy_images import colours

NAMES = sorted(NETWORKS)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.state_dict().values()])


class Reading(Network):
    """Notes which images it sees in training; their number is in their first pixel."""

    def __init__(self):
        super().__init__()
        self.low_precision = False
        self.head = nn.Linear(1, 2)
        self.seen = []

    def _pool(self, x):
        pixels = (x[:, 0, 0, 0] * training.STD + training.MEAN) * 255
        if self.training:
            self.seen.append(pixels.round().int().tolist())
        return pixels[:, None] / 255


def numbered(n, first=0):
    images = np.zeros((n, 8, 8, 3), dtype=np.uint8)
    images[:] = np.arange(first, first + n)[:, None, None, None]
    return images, np.zeros(n, dtype=np.int64)


@pytest.mark.parametrize("name", NAMES)
def test_networks_learn_colours(name):
    images, y = colours(90)
    test, y_test = colours(60, seed=1)
    for labels, expected in ((y, 1.0), ((y + 1) % 3, 0.0)):
        network = make_network(name, 3, seed=0, image_size=16)
        assert train(network, images, labels, n_steps=25, seed=0) is network
        assert not network.training
        assert accuracy(network, test, y_test) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("augmented", [False, True])
def test_the_seed_decides(augmented):
    images, y = colours(80)
    given, labels = images.copy(), y.copy()

    def run(seed):
        network = make_network("resnet", 3, seed=0)
        return weights(train(network, images, y, n_steps=3, seed=seed, augmented=augmented))

    first = run(1)
    assert torch.equal(first, run(1))
    assert not torch.equal(first, run(2))
    np.testing.assert_array_equal(images, given)
    np.testing.assert_array_equal(y, labels)


def test_every_image_is_read_once_in_a_pass():
    network = Reading()
    train(network, *numbered(100), n_steps=25, seed=0)
    read = [number for batch in network.seen for number in batch]
    assert {len(batch) for batch in network.seen} == {64}
    passes = [read[start : start + 100] for start in range(0, 1600, 100)]
    assert all(sorted(one) == list(range(100)) for one in passes)
    assert passes[0] != passes[1]


def test_steps_are_reported_with_their_rates():
    told = []
    train(Reading(), *numbered(70), n_steps=20, seed=0, peak=0.5, on_step=lambda *a: told.append(a))
    assert told == [(i + 1, learning_rate(i / 20, 0.5)) for i in range(20)]
    assert max(rate for _, rate in told) == pytest.approx(0.5, rel=0.1)


def append_rate(told, step, rate):
    told.append(rate)


def test_the_rate_of_a_network_is_its_own_unless_said():
    for peak in (None, 0.2):
        told = []
        note = partial(append_rate, told)
        train(Reading(), *numbered(9), n_steps=9, seed=0, peak=peak, on_step=note)
        assert max(told) == max(learning_rate(i / 9, peak or 0.1) for i in range(9))


def test_a_vit_is_trained_by_adamw():
    vit, cnn = (optimizer_for(make_network(n, 2, seed=0), 0.3) for n in ("vit", "cnn"))
    assert isinstance(vit, torch.optim.AdamW)
    assert isinstance(cnn, torch.optim.SGD)
    assert cnn.defaults["nesterov"]
    assert cnn.defaults["lr"] == vit.defaults["lr"] == 0.3


def test_fine_tuning_leaves_the_network_as_it_is():
    images, y = colours(60)
    network = train(make_network("cnn", 3, seed=0), images, y, n_steps=5, seed=0)
    before = copy.deepcopy(network.state_dict())
    tuned = fine_tune(network, images, y, n_steps=5, seed=0)
    again = fine_tune(network, images, y, n_steps=5, seed=0)
    assert tuned is not network
    assert not tuned.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(weights(tuned), weights(again))
    # It went on from there, at a tenth of the rate.
    with torch.no_grad():
        start, end = (torch.cat([p.flatten() for p in n.parameters()]) for n in (network, tuned))
    assert 0 < (end - start).norm() < 0.1 * start.norm()


def test_replay_keeps_what_was_learned():
    images, y = colours(90)
    old, new = y < 2, y == 2
    network = train(make_network("cnn", 3, seed=0), images[old], y[old], n_steps=30, seed=0)
    settings = {"n_steps": 30, "seed": 0, "peak": 0.1}
    forgot = fine_tune(network, images[new], y[new], **settings)
    kept = fine_tune(
        network, images[new], y[new], replay=0.5,
        replay_images=images[old], replay_labels=y[old], **settings,
    )  # fmt: skip
    assert class_accuracies(network, images, y, 3).tolist() == [1, 1, 0]
    assert class_accuracies(forgot, images, y, 3)[:2].max() < 0.5
    assert class_accuracies(kept, images, y, 3).min() > 0.9


@pytest.mark.parametrize(("share", "expected"), [(0.25, 16), (0.5, 32), (0.0, 0), (0.99, 63)])
def test_replay_is_a_share_of_each_batch(share, expected):
    images, y = numbered(40)
    earlier, labels = numbered(70, first=100)
    tuned = fine_tune(
        Reading(), images, y, n_steps=12, seed=0, replay=share,
        replay_images=earlier, replay_labels=labels,
    )  # fmt: skip
    assert len(tuned.seen) == 12
    for batch in tuned.seen:
        assert len(batch) == 64
        assert sum(number >= 100 for number in batch) == expected
    read = Counter(number for batch in tuned.seen for number in batch if number >= 100)
    if expected:  # passes over the earlier images, too
        assert max(read.values()) - min(read[i] for i in range(100, 170)) <= 1


def test_what_is_wrong_is_said():
    images, y = numbered(4)
    with pytest.raises(ValueError, match=r"`replay` must be in \[0, 1\)"):
        fine_tune(Reading(), images, y, n_steps=1, seed=0, replay=1.0)
    with pytest.raises(ValueError, match="Give `replay_images` and `replay_labels`"):
        fine_tune(Reading(), images, y, n_steps=1, seed=0, replay=0.5)
    with pytest.raises(ValueError, match="There must be an image to train on"):
        train(Reading(), images[:0], y[:0], n_steps=1, seed=0)


def test_prediction_in_blocks_is_that_of_the_network():
    images, _ = colours(23)
    network = make_network("vit", 3, seed=0, image_size=16).train()
    prob_nk, features_nf = predict(network, images, block=10)
    assert network.training
    assert prob_nk.dtype == features_nf.dtype == np.float32
    assert prob_nk.shape == (23, 3)
    assert features_nf.shape == (23, 96)
    with torch.no_grad():
        x = to_input(torch.from_numpy(images))
        np.testing.assert_allclose(prob_nk, network(x).softmax(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(features_nf, network.features(x), rtol=1e-4, atol=1e-5)


def test_prediction_uses_no_statistics_of_the_batch():
    images, _ = colours(40)
    network = train(make_network("cnn", 3, seed=0), images, np.arange(40) % 3, n_steps=3, seed=0)
    network.train()
    before = copy.deepcopy(network.state_dict())
    whole, alone = predict(network, images)[0], predict(network, images[:1])[0]
    np.testing.assert_allclose(whole[:1], alone, atol=0.01)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_accuracies_count_hits():
    class Constant(Network):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 4)
            nn.init.zeros_(self.head.weight)
            with torch.no_grad():
                self.head.bias.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))

        def _pool(self, x):
            return x.mean((1, 2, 3))[:, None]

    images, y = colours(6)[0], np.array([0, 1, 1, 2, 1, 0])
    assert accuracy(Constant(), images, y) == 0.5
    np.testing.assert_array_equal(class_accuracies(Constant(), images, y, 4), [0, 1, 0, np.nan])


def test_input_is_scaled_and_turned():
    images = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    images[0, 1, 0, 2] = 255
    x = to_input(torch.from_numpy(images))
    assert x.shape == (1, 3, 2, 2)
    assert x[0, 2, 1, 0] == pytest.approx((1 - training.MEAN) / training.STD)
    assert x[0, 0, 0, 0] == pytest.approx(-training.MEAN / training.STD)


def test_augmenting_shifts_and_mirrors():
    x = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    x = x.repeat(50, 1, 1, 1) + 1  # no zeros but those of the border
    moved = augment(x, torch.Generator().manual_seed(0), pad=2)
    assert moved.shape == x.shape
    assert torch.equal(moved, augment(x, torch.Generator().manual_seed(0), pad=2))
    shifts = set()
    padded = torch.nn.functional.pad(x, (2,) * 4)
    for before, after in zip(padded, moved, strict=True):
        found = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if torch.equal(
                after,
                before[:, top : top + 8, left : left + 8].flip(2)
                if flip
                else before[:, top : top + 8, left : left + 8],
            )
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) > 30  # of 50
