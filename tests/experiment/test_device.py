"""What a GPU would refuse or wait for, found without one: see ``pretend_cuda``."""

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_cuda import Waited, machine
from torch import nn

from mflib.experiment import (
    _decoders,
    data,
    descent,
    manifold,
    multifractal,
    networks,
    observers,
    reconstruction,
    training,
)

SIZES = {"sigma_w2": [1.3, 1.9], "sigma_b2": 0.05, "n_out": 10, "seeds": [3, 4]}
DENSE = {"width": 6, "depth": 4, "n_in": 64}
IMAGES = {"channels": 9, "depth": 4, "image_shape": (1, 8, 8), "stride2": 1}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", n_train=120, n_test=40)


@pytest.fixture(scope="module")
def unit_digits():
    return data.load("digits", input_range=(0.0, 1.0), n_train=150, n_test=20)


def on(device, parts):
    return [part.to(device) for part in parts]


# --- the pretended GPU itself ---------------------------------------------------------------------


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with machine() as gpu:
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert there.is_cuda
        assert there.device.type == "cuda"
        assert (there * 2 + torch.tensor(1.0)).tolist() == [3.0] * 3  # a CPU scalar is none
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="same device"):
            torch.add(there, there, out=here)
        with pytest.raises(RuntimeError, match="type for generator"):
            there.normal_(generator=torch.Generator())
        with pytest.raises(TypeError):
            there.numpy()
        there.normal_(generator=torch.Generator(device="cuda").manual_seed(1))
        gpu.waits.clear()
        bool((there > 0).any())
        there[[0, 1]]
        there[there > 0]
        there.cpu()
        assert len(gpu.waits) == 4
        with gpu.without_waiting("in a test"), pytest.raises(Waited, match="in a test"):
            float(there.sum())


def test_a_replayed_graph_keeps_what_the_host_had_when_it_was_captured():
    with machine():
        x, rate = torch.zeros(2, device="cuda"), 1.0
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            x.add_(rate)
        assert x.tolist() == [0.0, 0.0]  # captured, not taken
        rate = 5.0
        graph.replay()
        graph.replay()
        assert x.tolist() == [2.0, 2.0]
        for waiting in (lambda: x.sum().item(), lambda: x.copy_(torch.ones(2))):
            with pytest.raises(Waited, match="captured"), torch.cuda.graph(graph):
                waiting()


# --- training -------------------------------------------------------------------------------------


def trained(kind, sizes, dataset, device, options, steps, gpu=None):
    """Return the parameters after so many steps, as numpy, and the scores."""
    x, y = on(device, (dataset.x_train, dataset.y_train))
    network = networks.ARCHITECTURES[kind].draw(
        options.get("activation", "tanh"), **SIZES, **sizes, device=device
    )
    own = {name: value for name, value in options.items() if name != "activation"}
    one = descent.Descent(
        network, x, y, learning_rates=[0.05, 0.1], seeds=[0, 1], batch_size=16, steps_per_epoch=6,
        **own,
    )  # fmt: skip
    one.advance(1)
    if gpu is None:
        one.advance(steps - 1)
    else:
        for _ in range(steps // 6):
            with gpu.without_waiting("inside an epoch"):
                one.advance(5)
            one.advance(1)
        assert one.steps_done == steps
    scores = descent.evaluate(network, (x, y), (x[:32], y[:32]))
    found = [p.cpu().numpy() for p in (*network.weights, *network.biases)]
    return found, scores


@pytest.mark.parametrize(
    ("kind", "sizes", "options"),
    [
        ("fully-connected", DENSE, {}),
        ("fully-connected", DENSE, {"momentum": 0.9, "weight_decay": 0.01, "activation": "erf"}),
        ("fully-connected", DENSE, {"memory_limit": 0, "train_biases": False}),
        ("convolutional", IMAGES, {"momentum": 0.5, "memory_limit": 0, "activation": "relu"}),
        ("alternating", IMAGES, {"weight_decay": 0.01, "activation": "softsign"}),
    ],
)
def test_no_step_waits_inside_an_epoch_and_a_graph_takes_the_same_steps(
    digits, kind, sizes, options
):
    here, scores = trained(kind, sizes, digits, "cpu", options, 13)
    with machine() as gpu:
        there, again = trained(kind, sizes, digits, "cuda", options, 13, gpu)
        (graph,) = gpu.graphs
    assert graph.replays == 10  # all but the first three
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scores.train_loss, again.train_loss, rtol=1e-5)
    assert (scores.test_accuracy == again.test_accuracy).all()


def test_a_descent_goes_on_from_its_state_with_a_graph_of_its_own(digits):
    def begun():
        network = networks.FullyConnected.draw("tanh", **SIZES, **DENSE, device="cuda")
        return descent.Descent(
            network, *on("cuda", (digits.x_train, digits.y_train)), learning_rates=[0.05, 0.1],
            seeds=[0, 1], batch_size=16, steps_per_epoch=6, momentum=0.9,
        )  # fmt: skip

    with machine() as gpu:
        whole, again = begun(), begun()
        whole.advance(9)
        state = whole.state()
        assert not state.is_cuda
        whole.advance(8)
        again.resume(state, 9)
        again.advance(8)
        assert [graph.replays for graph in gpu.graphs] == [14, 5]
        assert whole.state().equal(again.state())
        assert not whole.state().equal(state)


@pytest.mark.parametrize(
    ("observe", "options"),
    [
        (observers.stable_fits, {"layers": [2]}),
        (observers.sizes, {"points": 3}),
        (multifractal.observe_dimensions, {"layer": 2, "q": (1.0, 2.0)}),
    ],
)
def test_a_whole_table_is_the_same(observe, options):
    grid = training.Grid(
        sigma_w2=(1.2, 1.8), depths=(3,), width=10, dataset="digits", batch_size=16, steps=7,
        steps_per_epoch=3, evaluation_samples=40, learning_rate=0.05, initialisation="stable",
        alpha=1.5,
    )  # fmt: skip

    def table(device):
        return training.observed(
            grid, observe, at=(0, 7), n_inputs=2, options=options, device=device, progress=False
        )

    here = table("cpu")
    with machine():
        there = table("cuda")
    pd.testing.assert_frame_equal(here, there, rtol=1e-6)


# --- reconstruction -------------------------------------------------------------------------------


def model(kind):
    if kind == "module":
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.Tanh(),
            nn.Flatten(), nn.Linear(64, 9), nn.Tanh(),
        )  # fmt: skip
    sizes = DENSE if kind == "fully-connected" else IMAGES
    return networks.ARCHITECTURES[kind].draw("tanh", **SIZES, **sizes)


@pytest.mark.parametrize("kind", ["fully-connected", "convolutional", "module"])
@pytest.mark.parametrize("mode", reconstruction.MODES)
def test_reconstructions_are_the_same(unit_digits, kind, mode):
    x, shown = unit_digits.x_train, unit_digits.x_test
    if kind == "module":
        x, shown = x.view(-1, 1, 8, 8), shown.view(-1, 1, 8, 8)

    def back(device):
        fitted = reconstruction.cascade(
            model(kind), x, mode=mode, batch_size=16, steps=12, readout="softmax", device=device,
            progress=False,
        )  # fmt: skip
        fitted.decode(torch.eye(*fitted.chain.shapes[-1]), fitted.depth)
        fitted.reconstruct(shown, 2, channels=[1, 2])
        return fitted.reconstruct(shown).cpu().numpy()

    here = back("cpu")
    with machine():
        there = back("cuda")
    scale = 1e-6 if mode == "faithful" else 1e-3
    np.testing.assert_allclose(here, there, rtol=scale, atol=scale)


def test_a_fit_on_a_gpu_does_not_wait_for_every_layer(unit_digits):
    counts = {}
    for depth in (4, 8):
        with machine() as gpu:
            network = networks.FullyConnected.draw(
                "tanh", **SIZES, **{**DENSE, "depth": depth}, device="cuda"
            )
            x = unit_digits.x_train.to("cuda")
            for mode in reconstruction.MODES:
                gpu.waits.clear()
                fitted = reconstruction.cascade(network, x, mode=mode, steps=9, progress=False)
                fitted.reconstruct(x[:9])
                counts[mode, depth] = len(gpu.waits)
    for mode in reconstruction.MODES:
        assert counts[mode, 4] == counts[mode, 8]


def test_a_fit_in_several_stacks_or_layer_by_layer_is_the_same(unit_digits, monkeypatch):
    def weights():
        with machine():
            fitted = reconstruction.cascade(
                model("fully-connected"), unit_digits.x_train, mode="closed-form", device="cuda",
                progress=False,
            )  # fmt: skip
            return torch.cat([w.flatten() for w in fitted.weights]).cpu().numpy()

    together = weights()
    states = 150 * 2 * (64 + 4 * 6)
    for numbers in (states, states - 1):  # all states, one decoder at a time; not all states
        monkeypatch.setattr(reconstruction, "_FIT_NUMBERS", numbers)
        np.testing.assert_allclose(weights(), together, rtol=1e-3, atol=1e-4)


def test_a_prediction_and_a_search_are_the_same(unit_digits):
    x = torch.cat([unit_digits.x_train, unit_digits.x_test])
    settings = {"width": 12, "depth": 8, "n_in": 64, "sigma_w2": 1.3, "sigma_b2": 0.05}

    def found(device):
        one = reconstruction.predict(
            {"activation": "tanh", **settings}, x.to(device), measure="differential", n_batches=2,
            batch=20, steps=8, device=device, progress=False,
        )  # fmt: skip
        other = reconstruction.critical_sigma_w2(
            "tanh", 0.05, width=20, depth=12, images=x.to(device), tolerance=0.5, device=device,
            progress=False,
        )  # fmt: skip
        return one.curve, other.value

    here = found("cpu")
    with machine():
        there = found("cuda")
    np.testing.assert_allclose(here[0], there[0], rtol=1e-5)
    assert here[1] == pytest.approx(there[1], rel=1e-3)


@pytest.mark.parametrize(("n", "size"), [(1, 112), (30, 7), (30, 30), (31, 112)])
def test_solving_in_blocks(n, size):
    generator = torch.Generator().manual_seed(n)
    a = torch.randn(3, n, 2 * n, generator=generator, dtype=torch.float64)
    matrix = a @ a.mT / (2 * n) + 1e-2 * torch.eye(n, dtype=torch.float64)
    right = torch.randn(3, n, 4, generator=generator, dtype=torch.float64)
    found, failed = _decoders.solve_in_blocks(matrix.clone(), right, size)
    np.testing.assert_allclose(found, torch.linalg.solve(matrix, right), rtol=1e-8, atol=1e-10)
    assert failed.tolist() == [0, 0, 0]
    matrix[1, -1, -1] = -1.0
    failed = _decoders.solve_in_blocks(matrix, right, size)[1]
    assert [bool(k) for k in failed] == [False, True, False]


# --- the other chapters ---------------------------------------------------------------------------


def test_circles_and_their_sweep_are_the_same():
    settings = {"width": 12, "depth": 3, "n_angles": 10, "n_networks": 1, "seed": 0}

    def found(device):
        curves = manifold.propagate("tanh", alpha=1.3, D_w=1.2, **settings, device=device)
        table = manifold.sweep(
            "tanh", alpha=[1.0, 2.0], gain=[0.5, 2.0], plane="random", **settings, device=device,
            progress=False,
        )  # fmt: skip
        return curves, table

    here = found("cpu")
    with machine():
        there = found("cuda")
    np.testing.assert_allclose(here[0].cv, there[0].cv, rtol=1e-9)
    columns = ["cv", "log_variance", "share_1", "log_median"]
    pd.testing.assert_frame_equal(here[1][columns], there[1][columns], rtol=1e-6)
