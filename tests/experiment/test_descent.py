"""The ensemble trains as each network alone does, with no member touching another."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mflib.experiment import data, descent
from mflib.experiment.networks import FullyConnected
from mflib.experiment.nonlinearities import NONLINEARITIES

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", dtype=DOUBLE)


def draw(w2, seeds, activation="tanh", dtype=DOUBLE, depth=5):
    return FullyConnected.draw(
        activation, sigma_w2=w2, sigma_b2=0.05, width=20, depth=depth, n_in=64, n_out=10,
        seeds=seeds, dtype=dtype,
    )  # fmt: skip


def by_the_book(
    network, dataset, *, rate, seed, batch_size, momentum, steps, steps_per_epoch,
    weight_decay=0.0, train_biases=True,
):  # fmt: skip
    """Train member 0 as a plain module with torch's own loss, autograd and optimiser."""
    module = network.module(0)
    trained = [p for p in module.parameters() if train_biases or p.ndim > 1]
    optimiser = torch.optim.SGD(trained, lr=rate, momentum=momentum, weight_decay=weight_decay)
    loss = torch.nn.NLLLoss()
    for step in range(steps):
        epoch, i = divmod(step, steps_per_epoch)
        order = descent.sample_order(len(dataset.x_train), seed, epoch, steps_per_epoch, batch_size)
        chosen = order[i]
        optimiser.zero_grad()
        outputs = torch.log_softmax(module(dataset.x_train[chosen]), dim=-1)
        loss(outputs, dataset.y_train[chosen]).backward()
        optimiser.step()
    return module


RULES = ({"weight_decay": 0.3}, {"train_biases": False, "weight_decay": 0.01})


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize(
    ("activation", "options"),
    [*((name, {}) for name in NONLINEARITIES), *itertools.product(["tanh", "relu"], RULES)],
    ids=str,
)
def test_ensemble_equals_training_each_alone(digits, activation, momentum, options):
    """Different σ_w², seeds and learning rates side by side, over more than one epoch."""
    members = list(itertools.product([0.9, 1.7], [3, 8], [0.01, 0.05]))
    w2, seeds, rates = zip(*members, strict=True)
    network = draw(w2, seeds, activation)
    start = [network.member(k) for k in range(len(members))]
    run = {"batch_size": 16, "momentum": momentum, "steps_per_epoch": 12, **options}
    trained = descent.Descent(
        network, digits.x_train, digits.y_train, learning_rates=rates, seeds=seeds, **run
    )
    trained.advance(30)
    for k in range(len(members)):
        alone = by_the_book(start[k], digits, rate=rates[k], seed=seeds[k], steps=30, **run)
        for ours, theirs in zip(network.module(k).parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(network.weights[2][k], start[k].weights[2][0], atol=1e-6)


LOOPS = ({"momentum": 0.0}, {"momentum": 0.8}, {"momentum": 0.8, "weight_decay": 0.3})


@pytest.mark.parametrize("rule", [*LOOPS, {"momentum": 0.8, "train_biases": False}], ids=str)
def test_a_state_goes_on_to_the_same_bits(digits, rule):
    """From any step, within an epoch or between two; a state holds no view of what moves on."""

    def begin():
        run = {"batch_size": 16, "steps_per_epoch": 6, **rule}
        network = draw([1.2, 2.2], [0, 1])
        return descent.Descent(
            network, digits.x_train, digits.y_train, learning_rates=[0.1] * 2, seeds=[3, 4], **run
        )

    straight = begin()
    states = []
    for _ in range(14):
        states.append(straight.state())
        straight.advance(1)
    for step in (0, 5, 6, 7):
        resumed = begin()
        resumed.resume(states[step], step)
        resumed.advance(14 - step)
        assert torch.equal(resumed.state(), straight.state())
    with pytest.raises(ValueError, match="a state of 3 numbers"):
        begin().resume(torch.zeros(3, dtype=DOUBLE), 1)


@pytest.mark.parametrize("rule", [*LOOPS[1:], {"momentum": 0.8, "train_biases": False}], ids=str)
def test_velocities_subtracted_together_move_the_same_bits(digits, rule):
    """As on a GPU; segments are computed again with weights that have not moved."""
    ended = []
    for together in (False, True):
        network = draw([1.2, 2.2], [0, 1], depth=9)
        trained = descent.Descent(
            network, digits.x_train, digits.y_train, learning_rates=[0.1] * 2, seeds=[3, 4],
            batch_size=16, memory_limit=0, **rule,
        )  # fmt: skip
        assert trained.segment == 3
        trained.together = together
        trained.advance(5)
        ended.append(trained.state())
    assert torch.equal(*ended)


def test_members_of_a_seed_see_the_same_batches_and_other_seeds_do_not():
    first, again = (descent.sample_order(100, 0, 0, 4, 25) for _ in range(2))
    assert torch.equal(first, again)
    assert sorted(first.flatten().tolist()) == list(range(100))
    assert not torch.equal(first, descent.sample_order(100, 1, 0, 4, 25))
    assert not torch.equal(first, descent.sample_order(100, 0, 1, 4, 25))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_diverging_member_touches_no_other(digits, activation):
    w2, seeds = [1.5, 1.5, 2.5], [0, 1, 0]
    rates = [0.02, 1e308, 0.02]

    def train(keep):
        network = draw([w2[k] for k in keep], [seeds[k] for k in keep], activation)
        descent.Descent(
            network, digits.x_train, digits.y_train, learning_rates=[rates[k] for k in keep],
            seeds=[seeds[k] for k in keep], batch_size=16,
        ).advance(25)  # fmt: skip
        test = (digits.x_test, digits.y_test)
        return network, descent.evaluate(network, (digits.x_train, digits.y_train), test)

    network, result = train([0, 1, 2])
    clean, clean_result = train([0, 2])
    assert result.diverged.tolist() == [False, True, False]
    assert 0 <= result.train_accuracy[1] <= 0.3
    for a, b in zip(network.weights, clean.weights, strict=True):
        torch.testing.assert_close(a[[0, 2]], b, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.test_loss[[0, 2]], clean_result.test_loss, rtol=1e-10)


def test_scores_are_those_of_torch(digits):
    network = draw([1.2, 2.2], [0, 1], depth=3)
    result = descent.evaluate(
        network, (digits.x_train, digits.y_train), (digits.x_test, digits.y_test)
    )
    for k in range(2):
        logits = network.module(k)(digits.x_test)
        loss = torch.nn.functional.cross_entropy(logits, digits.y_test).item()
        accuracy = (logits.argmax(1) == digits.y_test).double().mean().item()
        assert result.test_loss[k] == pytest.approx(loss, rel=1e-12)
        assert result.test_accuracy[k] == accuracy


def test_scores_do_not_depend_on_the_chunk(digits, monkeypatch):
    network = draw([1.2, 2.2], [0, 1], depth=3)
    parts = (digits.x_train, digits.y_train), (digits.x_test, digits.y_test)
    whole = descent.evaluate(network, *parts)
    monkeypatch.setitem(descent._EVALUATION_BYTES, "cpu", 8 * 2 * 20 * 77)
    chunked = descent.evaluate(network, *parts)
    np.testing.assert_array_equal(whole.train_accuracy, chunked.train_accuracy)
    np.testing.assert_allclose(whole.train_loss, chunked.train_loss, rtol=1e-12)


class _Watch(TorchDispatchMode):
    """Record every operation; those below make a device's host wait for it."""

    WAITS = ("_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "_to_copy")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("seeds", [[0, 0], [0, 1]])
@pytest.mark.parametrize("activation", NONLINEARITIES)
def test_a_step_never_waits_for_the_device(digits, activation, seeds, momentum):
    network = draw([1.2, 2.2], seeds, activation)
    trained = descent.Descent(
        network, digits.x_train, digits.y_train, learning_rates=[0.01] * 2, seeds=seeds,
        batch_size=16, momentum=momentum,
    )  # fmt: skip
    trained.advance(1)
    with _Watch() as watch, torch.no_grad():
        trained.step()
    assert len(watch.names) > 20
    assert not [name for name in watch.names if name in _Watch.WAITS]


def test_the_watch_sees_a_wait():
    with _Watch() as watch:
        torch.ones(1).item()
    assert "_local_scalar_dense" in watch.names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_cuda_graph_takes_the_same_steps(digits, momentum):
    def train(device, dtype=DOUBLE):
        network = draw([1.2, 2.2], [0, 1])
        network.weights = [w.to(device) for w in network.weights]
        network.biases = [b.to(device) for b in network.biases]
        trained = descent.Descent(
            network, digits.x_train.to(device), digits.y_train.to(device),
            learning_rates=[0.01, 0.05], seeds=[0, 1], batch_size=16, momentum=momentum,
            steps_per_epoch=12,
        )  # fmt: skip
        trained.advance(30)
        return trained

    on_gpu, on_cpu = train("cuda"), train("cpu")
    assert on_gpu.graph is not None
    for a, b in zip(on_gpu.network.weights, on_cpu.network.weights, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-8, atol=1e-11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_synchronisation_inside_an_epoch(digits):
    network = FullyConnected.draw(
        "tanh", sigma_w2=[1.5], sigma_b2=0.05, width=20, depth=3, n_in=64, n_out=10, seeds=[0],
        dtype=DOUBLE, device="cuda",
    )  # fmt: skip
    trained = descent.Descent(
        network, digits.x_train.cuda(), digits.y_train.cuda(), learning_rates=[0.01], seeds=[0],
        batch_size=16,
    )  # fmt: skip
    trained.advance(6)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trained.advance(20)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch_size": 2000}, "but there are 1437"),
        ({"steps_per_epoch": 500}, "but there are 1437"),
        ({"learning_rates": [0.1]}, "1 learning rates"),
    ],
)
def test_bad_settings_are_refused(digits, change, says):
    settings = {"learning_rates": [0.1, 0.1], "seeds": [0, 1], "batch_size": 16}
    with pytest.raises(ValueError, match=says):
        descent.Descent(
            draw([1, 2], [0, 1]), digits.x_train, digits.y_train, **{**settings, **change}
        )
