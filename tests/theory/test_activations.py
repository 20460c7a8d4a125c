"""Activations: values, derivatives, kinks, closed forms, and what callers may pass in."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy import special

from mflib.theory import activations, mean_field
from mflib.theory._curvature import smooth_curvature
from mflib.theory._moments import moments, product

from . import reference, tolerances

NAMES = activations.names()
reals = st.floats(-40.0, 40.0)


def away_from_kinks(act, x, distance=1e-2):
    return x[np.all(np.abs(x[:, None] - np.array(act.kinks)[None, :]) > distance, axis=1)]


def five_point(f, x, step=1e-3):
    return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step)


def test_the_eleven_names():
    assert set(NAMES) == set(reference.FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(x=reals)
def test_values_and_slopes_agree_with_thirty_digits(name, x):
    act = activations.get(name)
    f, d1, _ = reference.FUNCTIONS[name]
    assert act(x) == pytest.approx(float(f(mpf(x))), rel=1e-12, abs=1e-300)
    if x not in act.kinks:
        # φ′ of GELU and SiLU crosses 0, where only its absolute error can be small
        floor = 1e-15 if name in ("gelu", "silu") else 1e-300
        assert act.d1(x) == pytest.approx(float(d1(mpf(x))), rel=1e-11, abs=floor)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_derivatives(name):
    act = activations.get(name)
    x = away_from_kinks(act, np.linspace(-9, 9, 601))
    for f, slope in ((act, act.d1), (act.d1, act.d2)):
        np.testing.assert_allclose(slope(x), five_point(f, x), atol=tolerances.DERIVATIVE)


@pytest.mark.parametrize("name", NAMES)
def test_no_overflow_warning_and_the_limits_far_out(name):
    act = activations.get(name)
    far = np.array([-1e300, -1e160, -800.0, 0.0, 800.0, 1e160, 1e300])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, slopes, curves = act(far), act.d1(far), act.d2(far)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(slopes))
    assert np.all(curves[[0, -1]] == 0)
    low, high = act.range
    assert np.all((values >= low) & (values <= high))


@pytest.mark.parametrize("name", NAMES)
def test_range_is_reached_and_not_left(name):
    act = activations.get(name)
    values = act(np.concatenate([np.linspace(-30, 30, 60001), [-1e12, 1e12]]))
    for bound, seen in zip(act.range, (values.min(), values.max()), strict=True):
        if np.isfinite(bound):
            assert abs(seen - bound) < 1e-7
        else:
            assert abs(seen) > 1e9


@pytest.mark.parametrize("name", NAMES)
def test_kinks_are_where_the_derivatives_jump(name):
    act = activations.get(name)
    found = activations.from_callable(act.function, d1=act.first, d2=act.second)
    assert found.kinks == pytest.approx(act.kinks, abs=1e-10)
    assert np.allclose(found.jumps, act.jumps, atol=1e-6)
    assert found.odd == act.odd


def test_jumps_of_the_slope():
    assert activations.get("relu").jumps.tolist() == [1.0]
    assert activations.get("hard-tanh").jumps.tolist() == [1.0, -1.0]
    assert activations.get("softsign").jumps.tolist() == [0.0]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'softsign'"):
        activations.get("softsing")
    with pytest.raises(ValueError, match="from_callable"):
        activations.get(np.tanh)
    assert activations.get("Hard_Tanh").name == "hard-tanh"


# --- closed forms against the rules that need none --------------------------------------------


def stripped(name):
    """Return the activation without its closed forms."""
    act = activations.get(name)
    return activations.Activation(
        name, act.function, act.first, act.second, act.kinks, act.range, odd=act.odd
    )


CLOSED = [name for name in NAMES if activations.get(name).closed is not None]


@pytest.mark.parametrize("name", CLOSED)
@settings(deadline=None, max_examples=40)
@given(exponent=st.floats(-12, 6))
def test_closed_moments_equal_quadrature(name, exponent):
    q = np.array([10.0**exponent])
    by_rule, closed = moments(stripped(name), q), moments(activations.get(name), q)
    np.testing.assert_allclose(closed, by_rule, rtol=tolerances.MOMENT)


@pytest.mark.parametrize("name", CLOSED)
@settings(deadline=None, max_examples=25)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), c=st.floats(-1, 1))
def test_closed_products_equal_quadrature(name, a, b, c):
    q_a, q_b, c = np.array([10.0**a]), np.array([10.0**b]), np.array([c])
    act = activations.get(name)
    scale = np.sqrt(moments(act, q_a)[0] * moments(act, q_b)[0])
    difference = product(act, q_a, q_b, c) - product(stripped(name), q_a, q_b, c)
    assert np.abs(difference) <= 1e-12 * scale


@pytest.mark.parametrize("name", ["erf", "gelu"])
@pytest.mark.parametrize("q", [1e-6, 0.3, 5.0, 400.0])
def test_closed_curvature_equals_quadrature(name, q):
    theta = np.array([1e-6, 1e-2, 0.5, 1.2, np.pi / 2])
    closed = activations.get(name).closed.curvature(q, np.cos(theta), np.sin(theta))
    by_rule = smooth_curvature(stripped(name), np.array([q]), theta[None])[0]
    np.testing.assert_allclose(closed, by_rule, rtol=1e-12, atol=1e-13 * closed.max())


# --- functions of the caller --------------------------------------------------------------------


def same_theory(mine, name, settings=((1.5, 0.05), (3.0, 0.3), (1.2, 1.0)), rtol=1e-9):
    w, b = np.array(settings).T
    ours, theirs = mean_field.fixed_point(name, w, b), mean_field.fixed_point(mine, w, b)
    for field in ("q", "c", "chi_1", "chi_c", "xi_q", "xi_c"):
        np.testing.assert_allclose(getattr(theirs, field), getattr(ours, field), rtol=rtol)


def test_numpy_expression_is_differentiated_to_rounding():
    mine = activations.from_callable(lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1))
    x = np.linspace(-10, 10, 401)
    np.testing.assert_allclose(mine.d1(x), activations.get("tanh").d1(x), atol=1e-15)
    np.testing.assert_allclose(mine.d2(x), activations.get("tanh").d2(x), atol=2e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: 1 / (1 + np.exp(-x)), "sigmoid"),
        (lambda x: x / (1 + np.exp(-x)), "silu"),
    ],
)
def test_a_formula_that_overflows_far_out_is_an_activation(function, name):
    mine = activations.from_callable(function)
    x = np.array([-8000.0, -750.0, 0.5, 750.0, 8000.0])
    np.testing.assert_allclose(mine.d1(x), activations.get(name).d1(x), atol=1e-12)
    np.testing.assert_allclose(mine.d2(x), activations.get(name).d2(x), atol=1e-12)
    same_theory(mine, name)


EXPRESSIONS = {
    "tanh": lambda x: np.tanh(x),
    "arctan": lambda x: np.arctan(x),
    "softsign": lambda x: x / (1 + abs(x)),
    "sigmoid": lambda x: special.expit(x),
    "gelu": lambda x: x * (1 + special.erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x * special.expit(x),
    "hard-tanh": lambda x: np.clip(x, -1, 1),
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "leaky-relu": lambda x: np.maximum(x, 0.01 * x),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_callable_has_the_theory_of_its_name(name):
    mine = activations.from_callable(EXPRESSIONS[name], name="mine")
    assert mine.kinks == pytest.approx(activations.get(name).kinks, abs=1e-10)
    small = ((1.5, 0.05), (0.4, 0.3), (1.9, 0.5))
    same_theory(
        mine,
        name,
        small
        if name in ("relu", "leaky-relu", "gelu", "silu")
        else ((1.5, 0.05), (3.0, 0.3), (1.2, 1.0)),
    )


def test_smooth_function_with_kinks_of_slope_and_curvature():
    """ELU: φ′ is continuous, φ″ jumps; SELU: φ′ jumps too. Both against plain quadrature."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805

    def selu(x):
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))

    act = activations.from_callable(selu, name="selu")
    assert act.kinks == (0.0,)
    assert act.jumps[0] == pytest.approx(scale * (1 - alpha), rel=1e-9)
    # self-normalising: q = 1 is the fixed point with unit gain
    point = mean_field.fixed_point(act, 1.0, 0.0)
    assert point.q == pytest.approx(1.0, rel=1e-9)
    w, b = 1.3, 0.2
    point = mean_field.fixed_point(act, w, b)
    q, c = float(point.q), float(point.c)
    if c < 1:
        image = mean_field.correlation_map(act, c, w, b, q_a=q)
        assert image == pytest.approx(c, abs=1e-11)
        step = 1e-5
        near = mean_field.correlation_map(act, np.array([c - step, c + step]), w, b, q_a=q)
        assert (near[1] - near[0]) / (2 * step) == pytest.approx(float(point.chi_c), rel=1e-7)
    else:
        assert point.chi_1 <= 1


SOFTPLUS = [
    lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    lambda x: np.logaddexp(0, x),
    lambda x: np.logaddexp(x - 3, 2 * x - 3) - x + 3,
]


@pytest.mark.parametrize("softplus", SOFTPLUS)
def test_a_smooth_function_of_pieces_is_smooth_where_they_meet(softplus):
    """Softplus has φ′(0) = 1/2 and φ″(0) = 1/4, however it is written."""
    act = activations.from_callable(softplus)
    assert act.kinks == ()
    x = np.array([-700.0, -30.0, -1e-12, 0.0, 1e-12, 0.7, 30.0, 700.0])
    np.testing.assert_allclose(act.d1(x), special.expit(x), rtol=1e-14, atol=1e-13)
    slope = special.expit(x) * special.expit(-x)
    np.testing.assert_allclose(act.d2(x), slope, rtol=1e-14, atol=1e-12)
    assert float(act.d1(0.0)) == pytest.approx(0.5, abs=1e-15)


def test_complex_arguments_serve_where_jets_do_not_follow():
    def series(x):
        out = np.empty_like(x)  # assigning into a plain array hides the function from jets
        out[...] = x / np.sqrt(1 + x * x)
        return out

    def plain(x):
        return x / np.sqrt(1 + x * x)

    mine, jets = activations.from_callable(series), activations.from_callable(plain)
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(mine.d1(x), jets.d1(x), rtol=1e-14)
    np.testing.assert_allclose(mine.d2(x), jets.d2(x), atol=1e-11)


def test_a_kinked_function_that_hides_from_both_is_refused():
    def hidden(x):
        return np.array([max(v, 0.0) for v in np.ravel(x)]).reshape(np.shape(x))

    with pytest.raises(ValueError, match="give its derivatives as d1 and d2"):
        activations.from_callable(hidden)
    given_derivatives = activations.from_callable(
        hidden, d1=lambda x: np.where(x > 0, 1.0, 0.0), d2=np.zeros_like
    )
    assert given_derivatives.kinks == pytest.approx((0.0,), abs=1e-10)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x.sum(), "returned shape"),
        (lambda x: np.log(x), "finite"),
        (lambda x: x + 0j, "complex"),
        (np.sign, "jumps at"),
        (math.tanh, "does not take a numpy array"),
        (lambda x: x.clamp(0), "does not take a numpy array"),
        ("tanh", "must be a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_no_activation_is_refused(function, words):
    with pytest.raises(ValueError, match=words):
        activations.from_callable(function)


def test_a_wrong_derivative_is_refused():
    with pytest.raises(ValueError, match="d1 of activation"):
        activations.from_callable(np.tanh, d1=np.cos, d2=np.sin)
    with pytest.raises(ValueError, match="d2 of activation"):
        activations.from_callable(np.tanh, d2=np.cos)
    with pytest.raises(ValueError, match="kinks"):
        activations.from_callable(np.tanh, kinks=(np.nan,))
    with pytest.raises(ValueError, match="sequence of finite numbers"):
        activations.from_callable(np.abs, kinks=0.0)
