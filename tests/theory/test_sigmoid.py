"""Check the proof of the sigmoid theorem against other arithmetic, and that it can fail."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from flint import arb, ctx
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit

from mflib.theory import sigmoid
from mflib.theory.sigmoid import Box, Certificate, Claim

lengths = st.floats(-12, 6).map(lambda exponent: 10.0**exponent)


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return sigmoid.minimum_critical_sigma_w2()


def float_mean(f: Callable[[float], float], q: float) -> float:
    """E f(√q z) by scipy's adaptive rule in x = √q z, split where the sigmoid bends."""
    root = np.sqrt(q)

    def integrand(z: float) -> float:
        return f(root * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    corners = sorted({sign * min(40.0, x / root) for x in (1.0, 6.0, 40.0) for sign in (-1, 1)})
    return sum(
        quad(integrand, lo, hi, epsabs=0, epsrel=1e-12, limit=200)[0]
        for lo, hi in zip([-40.0, *corners], [*corners, 40.0], strict=True)
        if lo < hi
    )


def slope(x: float) -> float:
    return expit(x) * expit(-x)


def float_bias_variance(q: float) -> float:
    return q - float_mean(lambda x: expit(x) ** 2, q) / float_mean(lambda x: slope(x) ** 2, q)


def ball_close(ball: arb, value: float, relative: float) -> bool:
    return bool(abs(ball - arb(value)) <= relative * abs(ball))


def test_minimum_agrees_with_mpmath_at_fifty_digits() -> None:
    # The trapezoidal rule in z: independent of Arb's integrator, and exponentially accurate for
    # an integrand analytic in |Im z| < π/√q ≈ 0.46 (error exp(-2π 0.46/h) ≈ 1e-63 here).
    with mpmath.workdps(60):
        h = mpmath.mpf(1) / 50
        nodes = [(h * k, mpmath.exp(-((h * k) ** 2) / 2)) for k in range(1, 900)]

        def mean(f: Callable[[mpmath.mpf], mpmath.mpf], q: mpmath.mpf) -> mpmath.mpf:
            k = mpmath.sqrt(q)
            total = f(mpmath.mpf(0)) + sum(w * (f(k * z) + f(-k * z)) for z, w in nodes)
            return h * total / mpmath.sqrt(2 * mpmath.pi)

        def phi(x: mpmath.mpf) -> mpmath.mpf:
            return 1 / (1 + mpmath.exp(-x))

        def squared_slope(x: mpmath.mpf) -> mpmath.mpf:
            return (phi(x) * (1 - phi(x))) ** 2

        q = mpmath.findroot(
            lambda q: q * mean(squared_slope, q) - mean(lambda x: phi(x) ** 2, q), (45, 46)
        )
        minimum = 1 / mean(squared_slope, q)
        certificate = sigmoid.minimum_critical_sigma_w2(digits=48)
        assert mpmath.mpf(certificate.lower) <= minimum <= mpmath.mpf(certificate.upper)
        assert mpmath.mpf(certificate.q_lower) <= q <= mpmath.mpf(certificate.q_upper)


def test_theorem_1(certificate: Certificate) -> None:
    assert Fraction(certificate.lower) > 100
    assert Fraction(certificate.upper) - Fraction(certificate.lower) < Fraction(1, 10**25)
    assert certificate.verify()
    assert certificate.seconds < 20


def test_bounds_tighten_with_digits_and_nest() -> None:
    previous: Certificate | None = None
    for digits in range(10, 61, 10):
        current = sigmoid.minimum_critical_sigma_w2(digits=digits)
        width = Fraction(current.upper) - Fraction(current.lower)
        assert 0 < width <= 2 * Fraction(10) ** (3 - digits)
        assert len(current.lower.replace(".", "")) == digits
        if previous is not None:
            assert Fraction(previous.lower) <= Fraction(current.lower)
            assert Fraction(current.upper) <= Fraction(previous.upper)
            assert Fraction(previous.q_lower) <= Fraction(current.q_lower)
            assert Fraction(current.q_upper) <= Fraction(previous.q_upper)
        previous = current


@pytest.mark.parametrize("digits", [9, 61, -1, 30.0, True, "30", None])
def test_other_digits_are_refused(digits: object) -> None:
    with pytest.raises(ValueError, match=r"digits = .* from 10 to 60"):
        sigmoid.minimum_critical_sigma_w2(digits=digits)  # type: ignore[arg-type]


@pytest.mark.parametrize("q", [-1, float("nan"), float("inf"), "many", "inf"])
def test_bad_lengths_are_refused(q: float | str) -> None:
    for f in (sigmoid.mean_square, sigmoid.mean_square_slope, sigmoid.bias_variance):
        with pytest.raises(ValueError, match="q >= 0"):
            f(q)


@pytest.mark.parametrize("bits", [120, 130, 200, 400])
def test_certificate_holds_at_other_precisions(certificate: Certificate, bits: int) -> None:
    assert certificate.failures(bits=bits) == ()


def test_certificate_stays_open_where_precision_cannot_decide(certificate: Certificate) -> None:
    faults = certificate.failures(bits=53)
    assert any("not decided at 53 bits" in fault for fault in faults)
    # The cover has margins that any precision sees; only the tight bracket stays open.
    assert not any(f"[{box.lo}" in fault for box in cover(certificate) for fault in faults)


def cover(certificate: Certificate) -> tuple[Box, ...]:
    return max((claim.boxes for claim in certificate.claims), key=len)


def with_cover(certificate: Certificate, boxes: tuple[Box, ...]) -> Certificate:
    old = cover(certificate)
    claims = tuple(
        replace(claim, boxes=boxes) if claim.boxes == old else claim for claim in certificate.claims
    )
    return replace(certificate, claims=claims)


def with_claim(certificate: Certificate, index: int, claim: Claim) -> Certificate:
    claims = list(certificate.claims)
    claims[index] = claim
    return replace(certificate, claims=tuple(claims))


def ulp_up(decimal: str) -> str:
    places = len(decimal.split(".")[1])
    digits = str(int(decimal.replace(".", "")) + 1)
    return f"{digits[:-places]}.{digits[-places:]}"


FALSIFICATIONS: dict[str, Callable[[Certificate], Certificate]] = {
    "box shifted": lambda c: with_cover(
        c, (replace(cover(c)[0], hi="5.00"), replace(cover(c)[1], lo="5.00"), *cover(c)[2:])
    ),
    "box missing": lambda c: with_cover(c, cover(c)[:1] + cover(c)[2:]),
    "first box missing": lambda c: with_cover(c, cover(c)[1:]),
    "last box missing": lambda c: with_cover(c, cover(c)[:-1]),
    "no box": lambda c: with_cover(c, ()),
    "box reversed": lambda c: with_cover(c, (*cover(c)[:-1], replace(cover(c)[-1], relation=">"))),
    "box bound too strong": lambda c: with_cover(
        c, (replace(cover(c)[0], bound="-3.9"), *cover(c)[1:])
    ),
    "box bound too weak": lambda c: with_cover(
        c, (replace(cover(c)[0], bound="0.5"), *cover(c)[1:])
    ),
    "cover beyond the root": lambda c: with_cover(
        c, (*cover(c), Box(cover(c)[-1].hi, "50", "B(q)", "<", "0"))
    ),
    "claim dropped": lambda c: replace(c, claims=c.claims[:-1]),
    "claim reworded": lambda c: with_claim(
        c, 4, replace(c.claims[4], statement="B has exactly one root q*, 1 < q* < 2.")
    ),
    "lower too high": lambda c: replace(c, lower=c.upper),
    "upper too low": lambda c: replace(c, upper=c.lower),
    "bracket beside the root": lambda c: replace(c, q_lower=c.q_upper, q_upper="45.7"),
}


@pytest.mark.parametrize("name", FALSIFICATIONS)
def test_falsified_certificate_is_rejected(certificate: Certificate, name: str) -> None:
    false = FALSIFICATIONS[name](certificate)
    assert false != certificate
    assert not false.verify()


def test_forged_certificate_is_rejected_by_arithmetic(certificate: Certificate) -> None:
    """Every text agrees with every other here; only the inequalities can tell."""
    for lower, upper in (
        (ulp_up(certificate.lower), ulp_up(certificate.upper)),
        ("103.05", "103.06"),
        ("99", certificate.lower),
    ):
        claims = sigmoid._proof(
            lower, upper, certificate.q_lower, certificate.q_upper, cover(certificate)
        )
        forged = replace(certificate, lower=lower, upper=upper, claims=claims)
        faults = forged.failures()
        assert faults
        assert all(fault.startswith("not decided") for fault in faults)


@pytest.mark.parametrize(
    "box",
    [
        Box("2", "1", "B(q)", "<", "0"),
        Box("-1", "1", "B(q)", "<", "0"),
        Box("50", "inf", "B(q)", ">", "0"),
        Box("50", "inf", "1/X(q)", "<", "1000"),
    ],
)
def test_boxes_that_prove_nothing_do_not_hold(box: Box) -> None:
    assert not box.holds(bits=128)


@settings(max_examples=40, deadline=None)
@given(q=lengths)
def test_integrals_agree_with_scipy(q: float) -> None:
    # 1e-11 is scipy's own error here: its tolerance is 1e-12 on each of up to seven pieces.
    assert ball_close(sigmoid.mean_slope(q), float_mean(slope, q), 1e-11)
    assert ball_close(sigmoid.mean_square(q), float_mean(lambda x: expit(x) ** 2, q), 1e-11)
    assert ball_close(sigmoid.mean_square_slope(q), float_mean(lambda x: slope(x) ** 2, q), 1e-11)


@settings(max_examples=40, deadline=None)
@given(q=lengths, factor=st.floats(1.001, 100))
def test_lemmas_hold_between_random_lengths(q: float, factor: float) -> None:
    """Each lemma, decided by balls at two lengths a < b (a strict inequality, so it can fail)."""
    with ctx.workprec(192):
        a, b = Fraction(q), Fraction(q) * Fraction(factor)
        middle = (a + b) / 2
        ball_a, ball_b = (arb(x.numerator) / x.denominator for x in (a, b))
        x_a, x_b = (sigmoid.mean_square_slope(x, bits=192) for x in (a, b))
        s_a, s_b = (sigmoid.mean_slope(x, bits=192) for x in (a, b))
        v_a, v_m, v_b = (sigmoid.mean_square(x, bits=192) for x in (a, middle, b))
        # monotone
        assert x_b < x_a
        assert v_b > v_a
        # concave
        assert v_m > (v_a + v_b) / 2
        # spread
        assert ball_a.sqrt() * x_a < ball_b.sqrt() * x_b
        assert ball_a.sqrt() * s_a < ball_b.sqrt() * s_b
        # slope, integrated from a to b: 1/(4qX) falls with q, so its value at a bounds it.
        growth = sigmoid.bias_variance(b, bits=192) - sigmoid.bias_variance(a, bits=192)
        assert growth > (ball_b - ball_a) * (1 - 1 / (4 * ball_a * x_a))
        # crossing
        (w_a, chi_a), (w_b, chi_b) = (sigmoid.chi_1_without_bias(x, bits=192) for x in (a, b))
        assert w_a < w_b
        assert chi_a < chi_b


@settings(max_examples=40, deadline=None)
@given(sigma_b2=st.one_of(st.just(0.0), st.floats(1e-6, 1e4)))
def test_no_bias_brings_the_critical_line_below_the_bound(sigma_b2: float) -> None:
    q = brentq(lambda q: float_bias_variance(q) - sigma_b2, 20.0, 1e5, xtol=1e-12, rtol=1e-13)
    sigma_w2 = 1 / float_mean(lambda x: slope(x) ** 2, q)
    lower = float(sigmoid.minimum_critical_sigma_w2(digits=20).lower)
    assert sigma_w2 >= lower * (1 - 1e-11)
    if sigma_b2 > 1e-3:
        assert sigma_w2 > lower


@settings(max_examples=20, deadline=None)
@given(sigma_w2=st.floats(0.1, 1e3), sigma_b2=st.floats(0, 1e2))
def test_fixed_point_is_unique(sigma_w2: float, sigma_b2: float) -> None:
    largest = sigma_w2 / 2 + sigma_b2
    q = np.linspace(0, 1.01 * largest, 400)
    x, w = np.polynomial.hermite_e.hermegauss(200)
    v = (expit(np.sqrt(q)[:, None] * x) ** 2) @ w / np.sqrt(2 * np.pi)
    signs = np.sign(sigma_w2 * v + sigma_b2 - q)
    assert signs[0] > 0
    assert np.count_nonzero(np.diff(signs)) <= 2
    assert np.count_nonzero(np.diff(signs > 0)) == 1


def test_b_falls_at_first() -> None:
    """Why the proof needs its cover: σ_b² is not monotone in q over the whole line."""
    assert sigmoid.bias_variance(0).contains(-4)
    assert sigmoid.bias_variance("0.1") < sigmoid.bias_variance(0)


def test_working_precision_is_given_back() -> None:
    with ctx.workprec(77):
        sigmoid.bias_variance(3, bits=200)
        with pytest.raises(ValueError, match="q >= 0"):
            sigmoid.bias_variance(-3, bits=200)
        assert ctx.prec == 77
