"""Gaussian expectations: thirty digits, error bounds, orders of convergence, kinks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy import special

from mflib.theory import activations, gaussian, mean_field
from mflib.theory._moments import moments
from mflib.theory._quadrature import conditional_rule, difference_rule, legendre, line_rule

from . import reference, tolerances

NAMES = activations.names()
EXPONENTS = (-12, -9, -5.3, -2, -0.7, 0, 0.4, 1.1, 1.9, 3.2, 6)


@pytest.mark.parametrize("name", NAMES)
def test_moments_from_1e_minus_12_to_1e6(name):
    q = 10.0 ** np.array(EXPONENTS)
    ours = moments(activations.get(name), q)
    for mine, theirs in zip(
        ours, (reference.square, reference.slope_square, reference.growth), strict=True
    ):
        exact = np.array([float(theirs(name, mpf(v))) for v in q])
        np.testing.assert_allclose(mine, exact, rtol=tolerances.MOMENT)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(NAMES), exponent=st.floats(-12, 6))
def test_expectation_keeps_its_bound(name, exponent):
    act, q = activations.get(name), 10.0**exponent
    value, error = gaussian.expectation(lambda x: act(x) ** 2, q, kinks=act.kinks)
    exact = float(reference.square(name, mpf(q)))
    assert abs(value - exact) <= error + 1e-15 * exact
    assert error <= tolerances.MOMENT * exact


@settings(deadline=None, max_examples=40)
@given(power=st.integers(0, 8), exponent=st.floats(-12, 6))
def test_monomials(power, exponent):
    q = 10.0**exponent
    value, error = gaussian.expectation(lambda x: x**power, q)
    exact = 0.0 if power % 2 else np.prod(np.arange(power - 1, 0, -2.0)) * q ** (power / 2)
    assert abs(value - exact) <= error + 1e-14 * q ** (power / 2)


@settings(deadline=None, max_examples=30)
@given(kink=st.floats(-5, 5), exponent=st.floats(-6, 6))
def test_a_kink_anywhere(kink, exponent):
    """E|u − k| in closed form, with the kink named."""
    q = 10.0**exponent
    value, error = gaussian.expectation(lambda x: np.abs(x - kink), q, kinks=[kink])
    z = kink / np.sqrt(q)
    exact = kink * special.erf(z / np.sqrt(2)) + np.sqrt(2 * q / np.pi) * np.exp(-z * z / 2)
    assert abs(value - exact) <= error + 1e-14 * exact
    assert error <= 1e-12 * exact


@settings(deadline=None, max_examples=40)
@given(exponent=st.floats(-2, 8), square=st.booleans())
def test_the_bound_holds_for_oscillations_resolved_or_not(exponent, square):
    """E[cos u] = e^(−q/2), E[sin² u] = (1 − e^(−2q))/2: no rule here resolves them from 1e5 on."""
    q = 10.0**exponent
    if square:
        value, error = gaussian.expectation(lambda x: np.sin(x) ** 2, q)
        exact = -np.expm1(-2 * q) / 2
    else:
        value, error = gaussian.expectation(np.cos, q)
        exact = np.exp(-q / 2)
    argument = np.finfo(float).eps * np.sqrt(q)  # what f makes of u's rounding: ε E|u f′(u)|
    assert abs(value - exact) <= error + argument
    assert error < (1e-12 if q < 1e3 else 2.0)


def test_points_that_converge_keep_their_bound_beside_one_that_does_not():
    value, error = gaussian.expectation(np.cos, [1.0, 1e6, 4.0])
    np.testing.assert_allclose(value[[0, 2]], np.exp([-0.5, -2.0]), rtol=1e-13)
    assert np.all(error[[0, 2]] < 1e-13)
    assert error[1] >= abs(value[1])


def test_a_kink_unnamed_is_told_by_its_bound():
    """The default asks for 13 digits, which the rules never agree on; six they do."""
    z = 0.3
    exact = z * special.erf(z / np.sqrt(2)) + np.sqrt(2 / np.pi) * np.exp(-z * z / 2)
    value, error = gaussian.expectation(lambda x: np.abs(x - z), 1.0)
    assert 1e-10 < abs(value - exact) <= error
    assert error > exact
    value, error = gaussian.expectation(lambda x: np.abs(x - z), 1.0, rtol=1e-5)
    assert abs(value - exact) <= error < 1e-4


def test_the_bound_of_a_pair_holds_where_nothing_converges():
    value, error = gaussian.pair_expectation(np.cos, np.cos, 1e6, 1e6, 0.3)
    assert 0 <= abs(value) < error  # the exact value, e^(−7e5), is 0


@settings(deadline=None, max_examples=25)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), c=st.floats(-1, 1))
def test_pair_of_errors_is_an_arcsine(a, b, c):
    q_a, q_b = 10.0**a, 10.0**b
    value, error = gaussian.pair_expectation(special.erf, special.erf, q_a, q_b, c)
    rest = np.sqrt(1 + 2 * q_a + 2 * q_b + 4 * q_a * q_b * (1 - c) * (1 + c))
    exact = 2 / np.pi * np.arctan(2 * np.sqrt(q_a * q_b) * c / rest)
    assert abs(value - exact) <= error + 1e-14
    assert error <= tolerances.PAIR


@pytest.mark.parametrize("c", [-1.0, -0.99, -0.3, 0.0, 0.5, 0.9999, 1 - 1e-12, 1.0])
@pytest.mark.parametrize(("q_a", "q_b"), [(1.0, 1.0), (1e-4, 3.0), (2e3, 0.5)])
def test_pair_of_steps_is_an_orthant_probability(c, q_a, q_b):
    """E[sgn sgn] = 2 arcsin(c)/π, discontinuous where it is hardest: at the kinks' image."""
    value, error = gaussian.pair_expectation(
        np.sign, np.sign, q_a, q_b, c, kinks_f=[0.0], kinks_g=[0.0]
    )
    assert abs(value - 2 * np.arcsin(c) / np.pi) <= error + 2e-7 * (abs(c) > 0.999) + 1e-12


def test_pair_with_mixed_functions_and_shapes():
    c = np.array([-0.5, 0.2, 0.9])
    value, _ = gaussian.pair_expectation(np.sin, np.exp, 1.0, [[1.0], [2.0]], c)
    q_b = np.array([[1.0], [2.0]])
    cross = c * np.sqrt(q_b)
    exact = np.exp((q_b - 1) / 2) * np.sin(cross)
    np.testing.assert_allclose(value, exact, rtol=1e-12)


def test_zero_variance_is_the_value_at_zero():
    assert gaussian.expectation(np.cos, 0.0).value == 1.0
    assert gaussian.pair_expectation(np.cos, np.exp, 0.0, 0.0, 0.3).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian.expectation(np.tanh, -1.0), "q = -1 is out of range"),
        (lambda: gaussian.expectation(np.tanh, [1.0, np.nan]), "q = nan"),
        (lambda: gaussian.expectation(np.tanh, "one"), "real number"),
        (lambda: gaussian.expectation(np.tanh, 1.0, rtol=0.0), "rtol"),
        (lambda: gaussian.expectation(lambda x: x[0], 1.0), "element by element"),
        (lambda: gaussian.pair_expectation(np.sin, np.sin, 1.0, 1.0, 1.01), "c = 1.01"),
        (lambda: gaussian.pair_expectation(np.sin, np.sin, [1.0, 2.0], 1.0, [0, 0, 0]), "shapes"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- the rules themselves ---------------------------------------------------------------------


def test_legendre_is_correct_to_rounding():
    """Moments of every even power, and Bonnet's recurrence at the nodes."""
    for n in (5, 40, 111):
        x, w = legendre(n)
        for power in range(2 * n):
            assert np.sum(w * x**power) == pytest.approx(1 / (power + 1), rel=2e-15)
        # near the end weights fall like the distance to it: relative accuracy needs the tail
        assert w[np.argmin(x)] == pytest.approx(
            2
            * x.min()
            * (1 - x.min())
            / ((n + 1) * special.eval_legendre(n + 1, 1 - 2 * x.min())) ** 2
            * 2,
            rel=1e-10,
        )


def errors_by_refinement(rule, exact):
    levels = np.array([0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    nodes, errors = zip(*(rule(level) for level in levels), strict=True)
    return np.array(nodes, dtype=float), np.abs(np.array(errors) - exact) / abs(exact)


def test_convergence_is_geometric_in_the_nodes():
    """log(error) falls linearly with the nodes per arm: the integrand is analytic on each arm."""
    act, q = activations.get("tanh"), np.array([30.0])
    exact = float(reference.square("tanh", mpf(30)))

    def rule(level):
        x, w = line_rule(q, even=True, refine=level)
        return x.size, np.sum(w * act(x) ** 2)

    nodes, error = errors_by_refinement(rule, exact)
    fit = np.polyfit(nodes, np.log(error), 1)
    residual = np.log(error) - np.polyval(fit, nodes)
    assert fit[0] < -0.25  # at least a factor e for every four nodes
    assert np.max(np.abs(residual)) < 3


def test_a_kink_unnamed_costs_the_order():
    """Second order with the kink inside an arm, geometric with the kink at its end."""
    q = np.array([1.0])
    z = 0.7
    exact = z * special.erf(z / np.sqrt(2)) + np.sqrt(2 / np.pi) * np.exp(-z * z / 2)
    errors = {}
    for named in (True, False):
        for refine in (2.0, 4.0, 8.0, 16.0):
            x, w = line_rule(q, (z,) if named else (), refine=refine)
            errors[named, refine] = abs(np.sum(w * np.abs(x - z)) - exact)
    assert max(errors[True, r] for r in (2.0, 4.0, 8.0, 16.0)) < 1e-14
    worst = [max(errors[False, r], 1e-9) for r in (2.0, 16.0)]
    order = np.log(worst[0] / worst[1]) / np.log(8)
    assert 0.8 < order < 3.2


@example(name="softsign", exponent=-1.0, theta=3.09375)  # a kink, and a half sum of no width
@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(["tanh", "arctan", "softsign", "sigmoid", "silu", "gelu"]),
    exponent=st.floats(-6, 4),
    theta=st.floats(1e-7, 3.1),
)
def test_two_rules_for_the_pair_agree(name, exponent, theta):
    act, q, t = activations.get(name), np.array([10.0**exponent]), np.array([theta])
    u_a, u_b, w = difference_rule(q, t, act.kinks, mirrored=act.odd)
    first = np.sum(w * act.d2(u_a) * act.d2(u_b))
    v_a, v_b, v = conditional_rule(q, q, np.cos(t), np.sin(t), act.kinks, act.kinks)
    second = np.sum(v * act.d2(v_a) * act.d2(v_b))
    scale = np.sum(w * np.abs(act.d2(u_a) * act.d2(u_b)))
    assert abs(first - second) <= 1e-12 * scale


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(NAMES), exponent=st.floats(-4, 3), c=st.floats(-1, 1))
def test_the_map_agrees_with_the_general_rule(name, exponent, c):
    """The fast path of correlation_map against pair_expectation, which uses none of it."""
    act, q = activations.get(name), 10.0**exponent
    fast = mean_field.correlation_map(act, c, 1.7, 0.2, q_a=q, q_b=2 * q)
    overlap = gaussian.pair_expectation(act, act, q, 2 * q, c, kinks_f=act.kinks, kinks_g=act.kinks)
    norm = np.sqrt(
        mean_field.length_map(act, q, 1.7, 0.2) * mean_field.length_map(act, 2 * q, 1.7, 0.2)
    )
    slow = (1.7 * overlap.value + 0.2) / norm
    assert abs(fast - slow) <= 1.7 * overlap.error / norm + 1e-12
