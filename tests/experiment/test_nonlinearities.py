"""Activations for tensors: the theory's functions, with the derivatives that autograd finds."""

import math

import numpy as np
import pytest
import torch

from mflib.experiment.nonlinearities import MODULES, NONLINEARITIES, nonlinearity

DOUBLE = torch.float64


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_chain_is_the_derivative_that_autograd_finds(name):
    phi = nonlinearity(name)
    z = torch.linspace(-4.03, 4.05, 400, dtype=DOUBLE).requires_grad_()
    functional = MODULES[name]()
    value = functional(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(phi(z.detach()), value.detach(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(phi.derivative(z.detach()), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_activations_are_those_of_the_theory(name):
    activations = pytest.importorskip("mflib.theory.activations")
    theory, phi = activations.get(name), nonlinearity(name)
    z = np.linspace(-5.01, 5.03, 201)
    tensor = torch.as_tensor(z)
    np.testing.assert_allclose(phi(tensor).numpy(), theory(z), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(phi.derivative(tensor).numpy(), theory.d1(z), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(phi.range, theory.range, rtol=1e-7)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_values_stay_in_the_stated_range(name):
    phi = nonlinearity(name)
    low, high = phi.range
    values = phi(torch.linspace(-60, 60, 100_001, dtype=DOUBLE))
    assert values.min() >= low - 1e-15
    assert values.max() <= high + 1e-15
    assert math.isinf(low) or values.min() < low + 0.04 * max(1, abs(low))
    assert math.isinf(high) or values.max() > high - 0.04


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="'swish' cannot be trained: choose one of tanh"):
        nonlinearity("swish")
