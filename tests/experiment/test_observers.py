"""What observers report of networks: the laws their weights were drawn from."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch

from mflib.experiment import _threads, observers, training
from mflib.experiment.networks import Convolutional, FullyConnected
from mflib.experiment.store import Store
from mflib.experiment.training import Grid

NOTHING = torch.empty(0, 100)


@pytest.fixture(scope="module")
def network():
    return FullyConnected.draw(
        "tanh", sigma_w2=[0.7, 1.5], alpha=[1.3, 1.8], sigma_b2=0, initialisation="stable",
        width=120, depth=2, n_in=100, n_out=80, seeds=[0, 1],
    )  # fmt: skip


@pytest.mark.parametrize("method", ["likelihood", "quantiles"])
def test_fits_find_the_laws_that_weights_were_drawn_from(network, method):
    """Intervals of level 1 − 2e-6 (4.75 standard errors) cover, and D_w follows with the scale's.

    The relative error of D_w at a known α is √(π²/6 (1 + α²/2)/n) by logarithms, 1.3 %; that of
    α enters through N^{1/α}, so 15 % bounds five errors of both.
    """
    found = observers.stable_fits(network, NOTHING, method=method, level=1 - 2e-6)
    assert found[["member", "layer"]].values.tolist() == [[m, n] for m in (0, 1) for n in (1, 2, 3)]
    alpha = found.member.map({0: 1.3, 1: 1.8})
    assert ((found.alpha_low < alpha) & (alpha < found.alpha_high)).all()
    np.testing.assert_allclose(found.D_w, found.member.map({0: 0.7, 1: 1.5}), rtol=0.15)
    np.testing.assert_allclose(found.gain**found.alpha_fit, found.D_w, rtol=1e-12)
    assert (found.log_ratio > 100).all()
    assert (found.excess_kurtosis > 1).all()
    assert found.n.tolist() == [12_000, 14_400, 9_600] * 2


def test_gaussian_weights_have_no_likelier_stable_law():
    gaussian = FullyConnected.draw(
        "tanh", sigma_w2=[1.5], sigma_b2=0, width=120, depth=1, n_in=100, n_out=90, seeds=[0]
    )
    found = observers.stable_fits(gaussian, NOTHING)
    assert (found.alpha_high == 2).all()
    # at most a χ² of one degree, halved; and never below: the Gaussian is the law at α = 2
    assert found.log_ratio.between(-1e-6, 12).all()
    np.testing.assert_allclose(found.D_w, 1.5, rtol=0.1)


def test_kernels_count_their_taps():
    images = Convolutional.draw(
        "tanh", sigma_w2=[1.2], alpha=[1.5], sigma_b2=0, channels=24, depth=2, stride2=0,
        image_shape=(24, 8, 8), n_out=200, seeds=[0], initialisation="stable",
    )  # fmt: skip
    found = observers.stable_fits(images, NOTHING)
    assert found.n.tolist() == [24 * 24 * 9, 24 * 24 * 9, 24 * 200]
    np.testing.assert_allclose(found.D_w, 1.2, rtol=0.25)


def test_layers_can_be_chosen_and_one_that_is_not_there_is_refused(network):
    found = observers.stable_fits(network, NOTHING, layers=[3, 1], method="quantiles")
    assert found.layer.tolist() == [3, 1, 3, 1]
    whole = observers.stable_fits(network, NOTHING, method="quantiles").query("layer != 2")
    pd.testing.assert_frame_equal(
        found.sort_values(["member", "layer"], ignore_index=True), whole.reset_index(drop=True)
    )
    for layers, says in (([4], r"layers=4 must be in \[1, 3\]"), ([0], "layers=0 must be at")):
        with pytest.raises(ValueError, match=says):
            observers.stable_fits(network, NOTHING, layers=layers)


def test_weights_that_are_not_finite_have_no_law(network):
    broken = network.member(0)
    broken.weights[1][0, 3, 4] = float("nan")
    found = observers.stable_fits(broken, NOTHING, method="quantiles")
    assert found.alpha_fit.isna().tolist() == [False, True, False]
    assert found.n.tolist() == [12_000, 14_400, 9_600]


def test_decay_uncovers_the_tails_that_learning_makes(tmp_path):
    """Without decay the drawn Gaussian entries stay and hide them; with it they are gone."""
    grid = Grid(
        sigma_w2=(1.0,), sigma_b2=0.0, depths=(4,), width=128, dataset="digits", learning_rate=0.2,
        batch_size=32, steps=2000, evaluation_samples=300,
    )  # fmt: skip
    runs = [
        training.observed(
            Grid(**{**vars(grid), "weight_decay": decay}), observers.stable_fits, at=(0, 2000),
            options={"layers": [1]}, store=Store(tmp_path), device="cpu", progress=False,
        )
        for decay in (0.0, 0.008)
    ]  # fmt: skip
    kept, decayed = (run.query("step == 2000") for run in runs)
    assert (kept.alpha_low > 1.9).all()
    assert (decayed.alpha_high < 1.7).all()
    assert (decayed.log_ratio > 200).all()
    assert (runs[1].query("step == 0").alpha_high == 2).all()
    assert min(kept.test_accuracy.min(), decayed.test_accuracy.min()) > 0.9


def test_sizes_count_the_entries_beyond_them(network):
    found = observers.sizes(network, NOTHING, layers=[2], points=12)
    assert found.groupby("member").size().tolist() == [12, 12]
    for member, own in found.groupby("member"):
        entries = network.weights[1][member].double().abs().ravel().numpy()
        expected = [(entries >= size).mean() for size in own["size"]]
        np.testing.assert_allclose(own.share, expected, rtol=0, atol=1e-12)
        assert own["size"].iloc[-1] == entries.max()
        assert own.share.iloc[-1] == 1 / entries.size
        assert own.rms.iloc[0] == pytest.approx(np.sqrt((entries**2).mean()))


def test_tails_are_fits_and_sizes_in_one_table(network):
    found = observers.tails(network, NOTHING, layers=[3, 1], method="quantiles", points=5)
    counted = observers.sizes(network, NOTHING, layers=[3, 1], points=5)
    pd.testing.assert_frame_equal(found[list(counted)], counted)
    fits = observers.stable_fits(network, NOTHING, layers=[3, 1], method="quantiles")
    once = found.drop_duplicates(["member", "layer"])[list(fits)].reset_index(drop=True)
    pd.testing.assert_frame_equal(once, fits)


def test_side_by_side_beside_a_gpu_is_the_same_and_in_order():
    """A stand-in for the device: what counts is that its type is cuda."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = threading.Barrier(3, timeout=20)  # passed only by three at once

        def square(item):
            together.wait()
            return item * item

        found = _threads.of_each(square, [3, 1, 2], device=torch.device("cuda"))
        assert found == [9, 1, 4]
        with pytest.raises(ZeroDivisionError):
            _threads.of_each(lambda item: 1 / item, [1, 0, 2], device=torch.device("cuda"))
    finally:
        torch.set_num_threads(before)
    names = _threads.of_each(
        lambda _: threading.current_thread().name, [1, 2], device=torch.device("cpu")
    )
    assert names == [threading.current_thread().name] * 2


def test_sizes_of_weights_without_any_are_unknown():
    broken = FullyConnected.draw(
        "tanh", sigma_w2=[1.0], sigma_b2=0, width=5, depth=1, n_in=4, n_out=3, seeds=[0]
    )
    broken.weights[0].fill_(torch.nan)
    broken.weights[1].zero_()
    assert observers.sizes(broken, NOTHING)[["size", "share"]].isna().all(axis=None)
    with pytest.raises(ValueError, match="points=1 must be at least 2"):
        observers.sizes(broken, NOTHING, points=1)
