"""Prove in ball arithmetic how small σ_w² can be on the sigmoid's critical line.

For the logistic sigmoid φ(x) = 1/(1 + e⁻ˣ) and z ~ N(0, 1) put

    S(q) = E φ′(√q z),   V(q) = E φ(√q z)² = 1/2 − S(q),   X(q) = E φ′(√q z)².

A network is critical, χ₁ = σ_w² X(q) = 1, at a fixed point q = σ_w² V(q) + σ_b² exactly when

    σ_w² = 1/X(q),   σ_b² = B(q) = q − V(q)/X(q) ≥ 0,

so q alone runs along the critical line.  `LEMMAS` holds what is proved with pen and paper; what
is left are finitely many strict inequalities between Gaussian integrals, which Arb's balls
(midpoint ± radius, every rounding error inside) decide.  `minimum_critical_sigma_w2` collects
them in a `Certificate`, and `Certificate.verify` decides them again from its text alone.

Source: R. Pabari and I. Zhou, Theorem 1 and its appendix (eqs. 23-27), whose proof rests on a
decimal reading of σ_w² at σ_b² = 0; here that reading has a bound on each side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from flint import acb, arb, ctx, fmpq

__all__ = [
    "LEMMAS",
    "Box",
    "Certificate",
    "Claim",
    "bias_variance",
    "chi_1_without_bias",
    "mean_slope",
    "mean_square",
    "mean_square_slope",
    "minimum_critical_sigma_w2",
]

Number = int | float | str | Fraction

DIGITS = (10, 60)
_GUARD_BITS = 64

LEMMAS: dict[str, str] = {
    "monotone": (
        "X, S and 1 − V fall strictly with q, because φ′(x) = sech²(x/2)/4 falls strictly "
        "with |x|. So σ_w² = 1/X(q) and V(q)/X(q) rise strictly with q."
    ),
    "concave": (
        "V = 1/4 + E h(q z²)/4 with h(y) = tanh²(√y/2), and with u = √y/2 its slope "
        "h′(y) = (tanh u/u) sech²u/4 is a product of two positive falling functions of y. "
        "So V is strictly concave with V(0) = 1/4 > 0, and σ_w² V(q) + σ_b² − q has exactly one "
        "root q* for every σ_w² > 0 and σ_b² ≥ 0, with σ_w² V′(q*) < 1: q* rises with σ_b² and "
        "with σ_w²."
    ),
    "spread": (
        "√q X(q) = ∫ φ′(x)² exp(−x²/2q) dx/√(2π) rises with q, and so does √q S(q). "
        "So X′ > −X/2q and V′ = −S′ < S/2q."
    ),
    "slope": (
        "(V/X)′ = V′/X − V X′/X² < (S + V)/(2qX) = 1/(4qX), so B′(q) > 1 − 1/(4qX(q)), "
        "and q X(q) rises with q: once q₁X(q₁) > 1/4, B rises on all of [q₁, ∞)."
    ),
    "crossing": (
        "At constant σ_b², χ₁ = (1 − σ_b²/q) · qX/V and q rises with σ_w². By the lemma 'spread' "
        "(ln(qX/V))′ > (V − S)/(2qV) = E tanh²(√q z/2)/(4qV) > 0, and qX/V ≥ 2√q X(1) for q ≥ 1. "
        "So χ₁ rises strictly with σ_w² from 0 without bound and is 1 exactly once: the critical "
        "line is the graph of a function of σ_b²."
    ),
}


@contextmanager
def _precision(bits: int) -> Iterator[None]:
    previous = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = previous


def _fraction(q: Number) -> Fraction:
    try:
        value = Fraction(q)
    except (ValueError, OverflowError, TypeError):
        value = Fraction(-1)
    if value < 0:
        raise ValueError(f"q = {q!r} is not a length: give a finite number q >= 0.")
    return value


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _gaussian_mean(f: Callable[[acb], acb], q: Fraction, bits: int) -> arb:
    """Enclose E f(√q z) for an even meromorphic f that falls with |x| from f(0) ≤ 1 to 0."""
    with _precision(bits):
        root_q = _ball(q).sqrt()
        # Beyond this z the Gaussian weighs less than 2^-bits; f is monotone there.
        cut = arb(math.isqrt(2 * bits) + 1)
        density = (2 / arb.pi()).sqrt()
        body = acb.integral(lambda z, _: f(root_q * z) * (-z * z / 2).exp(), 0, cut).real * density
        tail = f(acb(root_q * cut)).real * (cut / arb(2).sqrt()).erfc()
        return body + arb(0).union(tail)


def _slope(x: acb) -> acb:
    return (x / 2).sech() ** 2 / 4


def mean_slope(q: Number, *, bits: int = 128) -> arb:
    """Enclose the mean slope of the sigmoid in a ball.

    S(q) = E φ′(√q z), z ~ N(0, 1).

    q: one length ≥ 0 (number or decimal string, taken exactly); bits: working precision.
    Returns a ball in (0, 1/4].  Raises ValueError for a q that is negative or not finite.
    """
    return _gaussian_mean(_slope, _fraction(q), bits)


def mean_square(q: Number, *, bits: int = 128) -> arb:
    """Enclose the mean square of the sigmoid in a ball.

    V(q) = E φ(√q z)² = 1/2 − E φ′(√q z), because φ² = φ − φ′ and E φ = 1/2.

    q, bits, errors: as `mean_slope`.  Returns a ball in [1/4, 1/2).
    Source: Pabari and Zhou, the integral of eq. 23.

    >>> mean_square(0).contains(0.25)
    True
    """
    with _precision(bits):
        return arb(1) / 2 - mean_slope(q, bits=bits)


def mean_square_slope(q: Number, *, bits: int = 128) -> arb:
    """Enclose the mean squared slope of the sigmoid in a ball.

    X(q) = E φ′(√q z)² = χ₁/σ_w².

    q, bits, errors: as `mean_slope`.  Returns a ball in (0, 1/16].
    Source: Pabari and Zhou, the integral of eq. 24.

    >>> mean_square_slope(0).contains(1 / 16)
    True
    """
    return _gaussian_mean(lambda x: _slope(x) ** 2, _fraction(q), bits)


def _ratio(q: Fraction, bits: int) -> arb:
    with _precision(bits):
        return mean_square(q, bits=bits) / mean_square_slope(q, bits=bits)


def bias_variance(q: Number, *, bits: int = 128) -> arb:
    """Enclose the bias variance at which the sigmoid is critical with fixed point q.

    σ_b² = B(q) = q − V(q)/X(q); the matching weight variance is σ_w² = 1/X(q).

    q, bits, errors: as `mean_slope`.  A negative value means that no network is critical with
    that fixed point.
    """
    exact = _fraction(q)
    with _precision(bits):
        return _ball(exact) - _ratio(exact, bits)


def chi_1_without_bias(q: Number, *, bits: int = 128) -> tuple[arb, arb]:
    """Enclose (σ_w², χ₁) of the bias-free sigmoid network whose fixed point is q.

    σ_w² = q/V(q),   χ₁ = q X(q)/V(q).

    q, bits, errors: as `mean_slope`.  Both rise strictly with q, so q draws the whole curve.
    Source: Pabari and Zhou, fig. 5.
    """
    exact = _fraction(q)
    with _precision(bits):
        sigma_w2 = _ball(exact) / mean_square(exact, bits=bits)
        return sigma_w2, sigma_w2 * mean_square_slope(exact, bits=bits)


Quantity = Literal["B(q)", "q X(q)", "1/X(q)"]
_INFINITY = "inf"


@dataclass(frozen=True)
class Box:
    """State one strict inequality for every q of a closed interval.

    `quantity` `relation` `bound` for all q in [`lo`, `hi`]; the numbers are exact decimals, and
    `hi` may be "inf".  Each quantity is monotone or the difference of two monotone functions of
    q (lemmas 'monotone' and 'slope'), so the ends of the interval decide the whole of it, without
    the overestimate that a wide ball of q would bring.
    """

    lo: str
    hi: str
    quantity: Quantity
    relation: Literal["<", ">"]
    bound: str

    def __str__(self) -> str:
        closing = "∞)" if self.hi == _INFINITY else f"{self.hi}]"
        return f"{self.quantity} {self.relation} {self.bound} on [{self.lo}, {closing}"

    def holds(self, *, bits: int) -> bool:
        """Decide the inequality with balls of the given precision; False where it stays open."""
        lo = Fraction(self.lo)
        hi = None if self.hi == _INFINITY else Fraction(self.hi)
        if lo < 0 or (hi is not None and hi < lo):
            return False
        with _precision(bits):
            bound = _ball(Fraction(self.bound))
            if self.relation == ">":
                least = _infimum(self.quantity, lo, hi, bits)
                return least is not None and bool(least > bound)
            most = _supremum(self.quantity, lo, hi, bits)
            return most is not None and bool(most < bound)


def _infimum(quantity: Quantity, lo: Fraction, hi: Fraction | None, bits: int) -> arb | None:
    """Enclose a lower bound of the quantity over [lo, hi]; None where the ends give none."""
    if quantity == "B(q)":
        return None if hi is None else _ball(lo) - _ratio(hi, bits)
    slope = mean_square_slope(lo, bits=bits)
    return _ball(lo) * slope if quantity == "q X(q)" else 1 / slope


def _supremum(quantity: Quantity, lo: Fraction, hi: Fraction | None, bits: int) -> arb | None:
    """Enclose an upper bound of the quantity over [lo, hi]; None where the ends give none."""
    if hi is None:
        return None
    if quantity == "B(q)":
        return _ball(hi) - _ratio(lo, bits)
    slope = mean_square_slope(hi, bits=bits)
    return _ball(hi) * slope if quantity == "q X(q)" else 1 / slope


@dataclass(frozen=True)
class Claim:
    """State one step of the proof: what it says, the lemmas it uses, the boxes that it checks."""

    name: str
    statement: str
    lemmas: tuple[str, ...]
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """Carry everything that the bound on the minimum of σ_w² over the critical line rests on.

    `lower` < min σ_w² < `upper` and `q_lower` < q* < `q_upper`, all exact decimals; the minimum is
    attained at σ_b² = 0 and only there.  `claims` is the proof in order, `bits` the precision at
    which it was found, `seconds` how long that took.
    """

    digits: int
    bits: int
    lower: str
    upper: str
    q_lower: str
    q_upper: str
    claims: tuple[Claim, ...]
    seconds: float

    @property
    def boxes(self) -> tuple[Box, ...]:
        """List every inequality that was decided in ball arithmetic."""
        return tuple(box for claim in self.claims for box in claim.boxes)

    @property
    def sigma_w2(self) -> float:
        """Give the minimum of σ_w², rounded to float64."""
        return float((Fraction(self.lower) + Fraction(self.upper)) / 2)

    @property
    def q(self) -> float:
        """Give the fixed point q* at the minimum, rounded to float64."""
        return float((Fraction(self.q_lower) + Fraction(self.q_upper)) / 2)

    @property
    def width(self) -> float:
        """Give the distance between the two bounds."""
        return float(Fraction(self.upper) - Fraction(self.lower))

    def failures(self, *, bits: int | None = None) -> tuple[str, ...]:
        """List what is wrong with this certificate, from its text alone.

        bits: the precision of the new check, by default 32 more than the one it was found with.
        Returns one sentence for each step that does not follow and each box that does not hold;
        empty when the proof stands.
        """
        cover = tuple(box for claim in self.claims if claim.name == _COVER for box in claim.boxes)
        faults = list(_gaps(cover, Fraction(self.q_lower)))
        if not faults and self.claims != _proof(
            self.lower, self.upper, self.q_lower, self.q_upper, cover
        ):
            faults.append("the claims are not those from which the bounds follow")
        bits = self.bits + 32 if bits is None else bits
        faults += [
            f"not decided at {bits} bits: {box}" for box in self.boxes if not box.holds(bits=bits)
        ]
        return tuple(faults)

    def verify(self, *, bits: int | None = None) -> bool:
        """Decide every inequality again, at another precision, and that together they suffice.

        bits: as `failures`, which names what fails.
        """
        return not self.failures(bits=bits)


_COVER = "no critical network below q₁"


def _gaps(cover: tuple[Box, ...], q_lower: Fraction) -> Iterator[str]:
    """Name what keeps the boxes from proving B < 0 on [0, q₁] with q₁ ≤ q_lower."""
    if not cover:
        yield "no box covers [0, q₁]"
        return
    if any(box.quantity != "B(q)" or box.relation != "<" for box in cover):
        yield "a box of the cover is not about B(q) < 0"
    if any(Fraction(box.bound) > 0 for box in cover):
        yield "a box of the cover lets B(q) be positive"
    if Fraction(cover[0].lo) != 0:
        yield f"the cover starts at {cover[0].lo}, not at 0"
    for left, right in pairwise(cover):
        if left.hi != right.lo:
            yield f"the cover leaves a gap between {left.hi} and {right.lo}"
    if cover[-1].hi == _INFINITY or Fraction(cover[-1].hi) > q_lower:
        yield f"the cover ends at {cover[-1].hi}, beyond {q_lower}"


def _proof(
    lower: str, upper: str, q_lower: str, q_upper: str, cover: tuple[Box, ...]
) -> tuple[Claim, ...]:
    """Write out the proof that lower < min σ_w² < upper, in order."""
    q_1 = cover[-1].hi
    return (
        Claim(
            "one fixed point",
            "For every σ_w² > 0 and σ_b² ≥ 0 there is exactly one q*, and it rises with both.",
            ("concave",),
        ),
        Claim(
            "one crossing",
            "At every σ_b² ≥ 0, χ₁ rises strictly with σ_w² and is 1 exactly once.",
            ("spread", "crossing"),
        ),
        Claim(
            _COVER,
            f"B(q) < 0 for all q in [0, q₁], q₁ = {q_1}.",
            ("monotone",),
            cover,
        ),
        Claim(
            "σ_b² rises with q beyond q₁",
            f"B′(q) > 0 for all q ≥ q₁ = {q_1}.",
            ("spread", "slope"),
            (Box(q_1, _INFINITY, "q X(q)", ">", "0.25"),),
        ),
        Claim(
            "the line starts at σ_b² = 0",
            f"B has exactly one root q*, {q_lower} < q* < {q_upper}, and B(q) ≥ 0 means q ≥ q*.",
            ("monotone",),
            (
                Box(q_lower, q_lower, "B(q)", "<", "0"),
                Box(q_upper, q_upper, "B(q)", ">", "0"),
            ),
        ),
        Claim(
            "bounds",
            f"Every critical network has σ_w² > {lower}; the one at σ_b² = 0 has σ_w² < {upper}.",
            ("monotone",),
            (
                Box(q_lower, _INFINITY, "1/X(q)", ">", lower),
                Box(q_lower, q_upper, "1/X(q)", "<", upper),
            ),
        ),
    )


def _decimal(value: Fraction, places: int, rounding: Callable[[Fraction], int]) -> str:
    """Write a value with a fixed number of decimals, rounded by math.floor or math.ceil."""
    scaled = rounding(value * 10**places)
    whole, part = divmod(abs(scaled), 10**places)
    return f"{'-' if scaled < 0 else ''}{whole}.{part:0{places}d}"


def _end(ball: arb, *, upper: bool) -> Fraction:
    """Give an end of a ball exactly; to be called at the precision that made the ball."""
    mantissa, exponent = (ball.upper() if upper else ball.lower()).man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _cover(bits: int) -> tuple[Box, ...]:
    """Walk from q = 0 in boxes on which B < 0, until q X(q) > 1/4.

    From q = a the inequality B ≤ b − V(a)/X(a) reaches every b < V(a)/X(a); each step goes nine
    tenths of that way, so every box keeps a margin that any precision can see.
    """
    boxes: list[Box] = []
    a = Fraction(0)
    while not _ball(a) * mean_square_slope(a, bits=bits) > arb(1) / 4:
        reach = _end(_ratio(a, bits), upper=False)
        lo, hi = _decimal(a, 2, math.floor), _decimal(a + (reach - a) * 9 / 10, 2, math.floor)
        bound = _decimal(Fraction(hi) - reach, 2, math.ceil)
        boxes.append(Box(lo, hi, "B(q)", "<", bound))
        a = Fraction(hi)
    return tuple(boxes)


def _root(digits: int, bits: int) -> Fraction:
    """Find the root of B by the secant rule; nothing rests on it but the width of the bracket."""
    a, b = Fraction(40), Fraction(50)
    while abs(b - a) > Fraction(1, 10 ** (digits + 2)):
        at_a, at_b = (_end(bias_variance(q, bits=bits), upper=True) for q in (a, b))
        step = (b - a) * at_b / (at_b - at_a)
        a, b = b, Fraction(math.floor((b - step) * 2**bits), 2**bits)
    return b


def minimum_critical_sigma_w2(digits: int = 30) -> Certificate:
    """Prove the smallest weight variance at which a sigmoid network can be critical.

    min {σ_w² : χ₁ = 1 at a fixed point q*, σ_b² ≥ 0} = 1/X(q*),  where B(q*) = 0.

    digits: significant decimals of the bounds, a whole number from 10 to 60; the bounds are
    rounded outwards and at most two units of the last decimal apart, 2·10^(3 − digits).
    Returns a `Certificate`; raises ValueError for other digits.
    Source: Pabari and Zhou, Theorem 1 (σ_w² ≳ 100) and the end of its proof.

    >>> certificate = minimum_critical_sigma_w2(digits=12)
    >>> certificate.verify(), certificate.sigma_w2 > 100
    (True, True)
    """
    whole = isinstance(digits, int) and not isinstance(digits, bool)
    if not whole or not DIGITS[0] <= digits <= DIGITS[1]:
        raise ValueError(
            f"digits = {digits!r} is not available: give a whole number "
            f"from {DIGITS[0]} to {DIGITS[1]}."
        )
    begin = time.perf_counter()
    bits = math.ceil(digits * math.log2(10)) + _GUARD_BITS
    with _precision(bits):
        cover = _cover(bits)
        root, ulp = _root(digits, bits), Fraction(1, 10**digits)
        q_lower = _decimal(root - ulp, digits, math.floor)
        q_upper = _decimal(root + ulp, digits, math.ceil)
        least, most = (1 / mean_square_slope(q, bits=bits) for q in (q_lower, q_upper))
        # Three of the digits stand before the decimal point.
        lower = _decimal(_end(least, upper=False), digits - 3, math.floor)
        upper = _decimal(_end(most, upper=True), digits - 3, math.ceil)
    claims = _proof(lower, upper, q_lower, q_upper, cover)
    certificate = Certificate(
        digits, bits, lower, upper, q_lower, q_upper, claims, time.perf_counter() - begin
    )
    faults = certificate.failures(bits=bits)
    if faults:
        raise ArithmeticError("the proof does not close: " + "; ".join(faults))
    return certificate
