"""Heavy-tailed mean field: lengths, eigenvalues, Jacobian averages, phase diagram."""

from __future__ import annotations

import numpy as np
import pytest

from mflib.theory import levy, mean_field


def test_the_circular_law_at_alpha_2():
    r = np.array([1e-9, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.9, 1.9999, 2.0, 2.5])
    exact = np.minimum(r**2 / 4, 1)
    np.testing.assert_allclose(levy.modulus_cdf("linear", 2.0, 4.0, r, log_q=0.0), exact, rtol=1e-9)
    inside = r[r < 1.99]
    density = levy.eigenvalue_density("linear", 2.0, 4.0, inside, log_q=0.0)
    np.testing.assert_allclose(4 * np.pi * density, 1, rtol=1e-8)


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid", "gelu"])
def test_alpha_2_is_the_gaussian_network(name):
    sigma_w2, sigma_b2 = np.array([0.5, 1.0, 1.5, 4.0])[:, None], np.array([0.0, 0.1])
    ours = levy.fixed_point(name, 2.0, sigma_w2, sigma_b2)
    exact = mean_field.fixed_point(name, sigma_w2, sigma_b2).q
    np.testing.assert_allclose(ours.q, exact, rtol=1e-10)
    assert ((ours.reason != "") == np.isnan(exact)).all()


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5, 1.95, 2.0])
@pytest.mark.parametrize("gain", [0.5, 1.5, 3.0])
def test_the_density_is_the_derivative_of_the_cdf(alpha, gain):
    r = np.array([0.01, 0.1, 0.3, 0.7, 1.0])
    step = 1e-4
    log_steps = step * np.array([-2, -1, 1, 2])[:, None]
    below = levy.modulus_cdf("tanh", alpha, gain**alpha, r * np.exp(log_steps))
    density = levy.eigenvalue_density("tanh", alpha, gain**alpha, r)
    per_log = (8 * (below[2] - below[1]) - (below[3] - below[0])) / (12 * step)
    np.testing.assert_allclose(density, per_log / (2 * np.pi * r**2), rtol=1e-7, atol=1e-9)
