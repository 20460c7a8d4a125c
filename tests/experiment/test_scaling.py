"""The exponent of a noisy power law is found, with an error that is the truth about it."""

import numpy as np
import pytest

from mflib.experiment import scaling

X = np.array([8.0, 16.0, 32.0, 64.0])


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.7])
def test_a_clean_power_law_of_either_sign(power):
    for sign in (1, -1):
        found, _ = scaling.log_slope(X, sign * 3 * X**power, 0.01 * X)
        assert found == pytest.approx(power, abs=1e-9)


def test_the_error_is_the_spread_of_the_exponent():
    rng = np.random.default_rng(5)
    truth, error = 4 / X, 0.02 / np.sqrt(X)
    draws = np.array([scaling.log_slope(X, truth + error * rng.standard_normal(4), error)
                      for _ in range(2000)])  # fmt: skip
    # the spread of 2000 draws is itself known to 1/√4000; the log is linear within these errors
    assert draws[:, 0].std() == pytest.approx(draws[:, 1].mean(), rel=0.08)
    assert draws[:, 0].mean() == pytest.approx(-1, abs=4 * draws[:, 0].std() / np.sqrt(2000) + 1e-3)


def test_a_point_with_a_large_error_counts_for_little():
    y = 1 / X
    y[-1] *= 10
    heavy, _ = scaling.log_slope(X, y, 0.01 * y)
    light, _ = scaling.log_slope(X, y, np.array([0.01, 0.01, 0.01, 1e4]) * y)
    assert light == pytest.approx(-1, abs=1e-4)
    assert abs(heavy + 1) > 0.5
