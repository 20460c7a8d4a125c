# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A certificate of your own: from samples to a theorem
#
# The chapter *The sigmoid theorem* proves that a sigmoid network needs a weight variance above 103 to
# be critical, and blames the sigmoid's mean. You take a part of that mean away and prove a theorem
# on the networks that are left, with tools that you build yourself. You will then be able to
#
# - say what a sample of a function knows and what an enclosure knows, and let a program decide
#   "for every $x$" without ever being wrong;
# - turn convexity into two-sided bounds on a Gaussian average, with an error that you can prove;
# - reduce a statement about all networks to a few numbers, and get a bound out of every step of an
#   iteration, converged or not;
# - find what an argument needs beyond what it says.
#
# **Time**: about 90 minutes, for readers of the chapter, whose notation is used here. **Points**:
# 40, of which 26 are given automatically and 14 by hand.
#
# **Allowed**: the book, numpy, scipy, python-flint. At your desk you may compare with
# `mflib.theory.sigmoid`. The functions that you hand in are to be your own: when they are graded, a
# call into `mflib` is noticed and earns nothing. A slip is paid once: hidden tests judge question 6 beside
# a right answer to question 4, and question 2 also beside your own answer to question 1.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import matplotlib.pyplot as plt
import numpy as np
from flint import arb, ctx

ctx.prec = 128  # bits of every ball below

mine = classroom.begin(
    "sigmoid-certificate",
    gain=classroom.between(100_000, 300_000, step=10_000),
    place=classroom.between(0.1205, 3.0005, step=0.12),
    mu=classroom.between(0.05, 0.30, step=0.01),
    sigma_b2_min=classroom.between(0.1, 1.0, step=0.05),
)
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
marks.total()

# %% [markdown]
# ## Balls in one minute
#
# An `arb` is a ball: a midpoint, plus or minus a radius. Every operation returns a ball that holds all
# possible results, rounding included. So a function written with balls is an **enclosure**: given a
# ball of $x$ it returns a ball with $f(x)$ for *every* $x$ in it, as a rule a ball larger than it need be.
# What you need:
#
# - `arb(0.1)` is exactly the floating-point number, `a.union(b)` a ball that holds both and all between;
# - `x.mid()`, `x.lower()`, `x.upper()` are exact numbers, `x.rad()` bounds the radius;
# - `x < y` and `x <= y` are true only if they hold for **all** points of the two balls. So `x <= y` and
#   `x > y` can both be false: then the balls do not know. With `nan` every comparison is false.

# %%
x = arb(0).union(arb(1))
print("x in [0, 1]:     x (1 - x) lies in", x * (1 - x), " although its values are in [0, 1/4]")
print("the two comparisons with 1/4:", x * (1 - x) <= 0.25, x * (1 - x) > 0.25)
x = arb(0.5).union(arb(0.51))
print("x in [0.5, 0.51]: x (1 - x) lies in", x * (1 - x))

# %% [markdown]
# ## 1. A judge that is never wrong (8 points, 15 minutes)
#
# Write `certify(f, a, b, bound, limit)`, which judges the statement "$f(x) \le$ `bound` for **every**
# $x$ with $a \le x \le b$" from an enclosure of $f$. It returns
#
# - `True` if the statement is proved,
# - `False` if it is refuted: some $x$ in $[a, b]$ certainly has $f(x) >$ `bound`,
# - `None` if neither was reached with `limit` calls of `f`.
#
# Where an enclosure is too wide to decide, cut the interval in two. `True` must be a proof: whatever
# `f` does on a part of $[a, b]$, however short, its two ends included. And `certify` must stop in every case, even where
# $f$ touches the bound.

# %% nbgrader="solution certify"
### BEGIN SOLUTION
from collections import deque

### END SOLUTION


def certify(f, a, b, bound, limit=10_000):
    """Judge "f(x) <= bound for every x in [a, b]".

    f: function that takes an arb and returns an arb that holds f(x) for every x in it;
    a <= b, bound: floats, taken exactly; limit: the largest number of calls of f.
    Returns True (proved), False (refuted) or None (undecided).
    """
    ### BEGIN SOLUTION
    bound = arb(bound)
    boxes = deque([(arb(a), arb(b))])
    calls = 0
    while boxes:
        if calls + 2 > limit:
            return None
        lo, hi = boxes.popleft()
        # the ends stay exact numbers and the union rounds outwards: no gap between two boxes
        value = f(lo.union(hi))
        calls += 1
        if value <= bound:
            continue
        # the union may reach a little beyond [lo, hi], so a violation is looked for at a point
        middle = ((lo + hi) / 2).mid()
        calls += 1
        if f(middle) > bound:
            return False
        if not lo < middle < hi:  # no number is left between the ends
            return None
        boxes.extend([(lo, middle), (middle, hi)])
    return True
    ### END SOLUTION


# %% nbgrader="tests certify-tests 8" mflib="no help"
marks = classroom.Marks(8)
with marks.part(
    1,
    "x (1 - x) on [0, 1] is at most 0.3, which takes some cutting, and not at most 0.2.",
    hint="Cut the interval while the ball of values neither lies below the bound nor above it.",
):
    upper_03 = certify(lambda x: x * (1 - x), 0.0, 1.0, 0.3)
    upper_02 = certify(lambda x: x * (1 - x), 0.0, 1.0, 0.2)
    assert upper_03 is True, "With the bound 0.3 it does not return True."
    assert upper_02 is False, "With the bound 0.2 it does not return False."
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.gain, round(1e4 * mine_graded.place)])


def counted(f, most):
    """Let f be called `most` times and then stop whoever calls it."""
    left = [most]

    def call(x):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("too many calls")
        return f(x)

    return call


def judged(f, a, b, bound, limit=10_000, most=50_000):
    """Return the verdict, and refuse one that is none of the three."""
    verdict_ = certify(counted(f, most), a, b, bound, limit)
    if not (verdict_ is None or isinstance(verdict_, (bool, np.bool_))):
        raise TypeError("neither True nor False nor None")
    return None if verdict_ is None else bool(verdict_)


def bump(c, w):
    return lambda x: 1 / (1 + ((x - arb(c)) / arb(w)) ** 2)


def sober():
    """Refuse a judge who never proves, never refutes, or proves what a sample suggests.

    Each step below could be had by luck otherwise: whoever always says None is never wrong.
    """
    easy = [judged(lambda x: +x, 0.0, 1.0, bound) for bound in (2.0, -1.0)]
    spiked = judged(bump(0.12345678, 1e-5), 0.0, 1.0, 0.5)
    classroom.same(easy == [True, False] and spiked is not True, True)


_cases = []
for _ in range(5):
    shift, slope_ = _rng.uniform(0, 6), _rng.uniform(0.5, 2)
    fine = np.linspace(-1, 2, 200_001)
    top = float((np.sin(8 * fine + shift) - slope_ * fine**2 + slope_ * fine).max())
    _cases.append((shift, slope_, top))
with marks.part(
    1,
    "True statements with some slack are proved, and not by a sample.",
    hint="An undecided interval is to be cut, not given up; `<=` is false while the ball is wide.",
):
    sober()
    for shift, slope_, top in _cases:
        wave = lambda x, s=shift, c=slope_: (8 * x + s).sin() - c * x * x + c * x  # noqa: E731
        classroom.same(judged(wave, -1.0, 2.0, top + 1e-3) is True, True)

# bumps too narrow for a sample, at places that no bisection of the interval hits
_bumps = [(float(c), 10.0 ** -float(p)) for c, p in _rng.uniform((-1, 4), (2, 9), (8, 2))]
# and violations of length 2e-14 and 2e-25, between the floats: 128 bits see them, a cutoff does not
_peaks = [
    arb(float(c)) + arb(float(d)) / 2**60 for c, d in _rng.uniform((0.05, 0), (0.95, 1), (4, 2))
]
with marks.part(
    2,
    "A violation is never overlooked, however short it is.",
    hint="Do you drop an interval that is still undecided, because it is short, or judge it by a value?",
):
    sober()
    for c, w in _bumps:
        classroom.same(judged(bump(c, w), -1.0, 2.0, 0.5) is not True, True)
    for c in _peaks:
        for least in (-1e-28, -1e-50):
            peak = lambda x, c=c: -((x - c) ** 2)  # noqa: E731
            classroom.same(judged(peak, -1.0, 2.0, least) is not True, True)
with marks.part(
    1,
    "The violation at such a bump is found.",
    hint="Where a box is undecided, a value at its middle may refute. Mind which box you cut next.",
):
    sober()
    for c, w in _bumps:
        classroom.same(judged(bump(c, w), -1.0, 2.0, 0.5) is False, True)

_ends = [(float(a), float(a + d)) for a, d in _rng.uniform((-3, 0.01), (3, 5), (60, 2))]
with marks.part(
    1,
    "A statement that fails only at the very end of the interval is not proved.",
    hint="Do your boxes hold a and b? (b - a)/2 in floating point is rounded, maybe downwards.",
):
    sober()
    for a, b in _ends:
        last = judged(lambda x: +x, a, b, float(np.nextafter(b, -9)), 500)
        first = judged(lambda x: -x, a, b, float(np.nextafter(-a, -9)), 500)
        classroom.same(last is not True and first is not True, True)
with marks.part(
    1,
    "Where f touches the bound it is not refuted, and the limit on the calls is kept.",
    hint="A limit on the depth is no limit on the calls: 40 halvings can make 2^40 boxes.",
):
    sober()
    third = arb(1) / 3
    for limit in (100, 3000):
        touching = judged(lambda x: 1 - (x - third) * (x - third), 0.0, 1.0, 1.0, limit, limit)
        plateau = judged(lambda x: 1 + (x - x), 0.0, 1.0, 1.0, limit, limit)
        classroom.same(touching is not False and plateau is not False, True)
with marks.part(
    1,
    "A ball without a bound, or nan, counts as undecided and is cut.",
    hint="With nan both comparisons are false; a judge that takes one for the other's opposite errs.",
):
    sober()
    pole = lambda x: 1 / (x * x + 0.01)  # noqa: E731
    classroom.same(judged(pole, -1.0, 2.0, 101.0) is True, True)
    classroom.same(judged(pole, -1.0, 2.0, 99.0) is False, True)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 2. What a sample cannot see (2 + 2 points, 5 minutes)
#
# The largest slope of an activation bounds how much one layer can spread two inputs, so one would like
# to guarantee it. Yours is a sigmoid with a small and sharp step in it, of height $4 \cdot 10^{-5}$ or less,
#
# $$
# \varphi(x) = \frac{1}{1 + e^{-x}} + \frac{4}{k}\, \frac{1}{1 + e^{-k (x - x_0)}}, \qquad
# \varphi'(x) = \tfrac14 \operatorname{sech}^2 \tfrac x2 + \operatorname{sech}^2 \tfrac{k (x - x_0)}{2},
# $$
#
# with your $k$ = `mine.gain` and $x_0$ = `mine.place`. The statement to judge: *"$\varphi'(x) \le 0.3$ for
# all $-6 \le x \le 6$."* Give
#
# - `sampled_max`: the largest slope among 10,001 equally spaced points of $[-6, 6]$, both ends included;
# - `verdict`: what `certify` says about the statement.

# %% nbgrader="locked slopes"


def slope(x):
    """Return the slope for an array of floats, written so that nothing overflows."""
    e, f = np.exp(-abs(x)), np.exp(-abs(mine.gain * (x - mine.place)))
    return e / (1 + e) ** 2 + 4 * f / (1 + f) ** 2


def sech_squared(x):
    """Enclose sech(x)^2 for an arb: it falls with |x|, so the two ends of |x| decide."""
    return (x.abs_lower().sech() ** 2).union(x.abs_upper().sech() ** 2)


def slope_of_ball(x):
    """Enclose the slope for an arb."""
    return sech_squared(x / 2) / 4 + sech_squared((x - arb(mine.place)) * mine.gain / 2)


# %% nbgrader="solution sampling"
### BEGIN SOLUTION
x = np.linspace(-6, 6, 10_001)
sampled_max = slope(x).max()
verdict = certify(slope_of_ball, -6.0, 6.0, 0.3)
### END SOLUTION

# %% nbgrader="tests sampling-tests 2" mflib="no help"
marks = classroom.Marks(2)
with marks.part(0, "Both answers are given."):
    _ = sampled_max, verdict
### BEGIN HIDDEN TESTS
mine_graded = classroom.graded()
_points = np.linspace(-6, 6, 10_001)
_gentle = 0.25 / np.cosh(_points / 2) ** 2
_far = np.exp(-mine_graded.gain * abs(_points - mine_graded.place))
right_max = float((_gentle + 4 * _far / (1 + _far) ** 2).max())


def _sech_squared(x):  # not the notebook's, which a student may rebind
    return (x.abs_lower().sech() ** 2).union(x.abs_upper().sech() ** 2)


def _slope_of_ball(x):
    step = _sech_squared((x - arb(mine_graded.place)) * mine_graded.gain / 2)
    return _sech_squared(x / 2) / 4 + step


def _spike(x):
    return 1 / (1 + ((x - arb(0.12345678)) * 10**5) ** 2)


def fits(verdict_):
    """Take the right verdict, or what one's own certify says if it is a judge at all."""
    if verdict_ is False or (isinstance(verdict_, np.bool_) and not verdict_):
        return
    # what a sample says, or whoever always says the same, is no judge
    easy = [certify(lambda x: +x, 0.0, 1.0, bound) for bound in (2.0, -1.0)]
    classroom.same(easy == [True, False] and certify(_spike, 0.0, 1.0, 0.5) is not True, True)
    classroom.same(verdict_ is certify(_slope_of_ball, -6.0, 6.0, 0.3), True)


with marks.part(
    1,
    "The largest slope of the sample is right.",
    hint="Both ends are among the 10,001 points; the slope is the one given above.",
):
    classroom.close(sampled_max, right_max, rtol=1e-6)
with marks.part(
    1,
    "The verdict is right, or is what your certify says.",
    hint="It need not agree with the sample: that is what the question is about.",
):
    fits(verdict)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# **Written (2 points).** Your sample is exact to rounding at each of its points. (a) What exactly does it prove
# about the statement, and can any finite sample alone prove one like it? (b) What further knowledge of $\varphi'$
# would let a sample prove such a statement? What would that cost for your $\varphi'$?

# %% [markdown] nbgrader="essay sampling-meaning 2"
# ### BEGIN SOLUTION
# (a) It proves $\varphi' \le 0.3$ at 10,001 points and nothing between them: for every finite sample there
# is a smooth function with the same values that breaks the bound. Precision does not help, since
# the numbers at the points are right. No finite sample alone proves a statement on all $x$; here the statement is even
# false, as `certify` shows.
#
# (b) A bound on how fast $\varphi'$ can change, say $|\varphi''| \le M$ (a Lipschitz constant). Where the statement is true,
# a sample proves it as soon as (largest value) $+ M \cdot$ (half a step) $\le 0.3$. That bound is
# itself knowledge about all $x$, as an enclosure is. Here $M$ is of order $k$, so that some
# $10^5$ or more points are needed to see anything for certain; `certify` cuts only where the enclosure leaves something open, and takes
# about a hundred calls or fewer.
#
# **Rubric.** (a) 1 point: nothing follows between the points, *and* no finite sample suffices, whatever its precision; half
# for one of them. (b) 1 point: a bound on a derivative (or monotonicity, or convexity, or an enclosure) named (half), *and* that with
# a step of width $1/k$ it takes of the order of $k$ points (half; no constant is asked for).
# ### END SOLUTION

# %% [markdown]
# ## 3. Convexity is an error bound (4 points, 10 minutes)
#
# The theorem needs two Gaussian averages, $S(q) = \mathbb E\,\varphi'(\sqrt q z)$ and
# $X(q) = \mathbb E\,\varphi'(\sqrt q z)^2$, now again for the plain sigmoid. Both are of the form
# $\mathbb E\, g(q z^2)$ with a function $g$ of $y = x^2$.
#
# (a) Lemma 2 of the chapter finds that $h(y) = \tanh^2(\sqrt y / 2)$ is concave. Conclude that
# $g_S(y) = \varphi'(\sqrt y)$ and $g_X(y) = \varphi'(\sqrt y)^2$ are falling and convex.
#
# (b) Cut $0 \le |z| < \infty$ into cells. Let a cell $[z_i, z_{i+1}]$ have the probability $w$ of
# $|z|$, and let $\bar s = \mathbb E[z^2 \mid z_i \le |z| \le z_{i+1}]$. For a falling convex $g$, bound
# $\mathbb E[g(q z^2) \mid \text{cell}]$ from below by one value of $g$ and from above by a weighted
# mean of two. Give the weights. How do you treat the last, infinite, cell?
#
# (c) Which two sums enclose the averages for every $q$ in an *interval* $q_a \le q \le q_b$, and why?

# %% [markdown] nbgrader="essay convexity 4"
# ### BEGIN SOLUTION
# (a) $\varphi'(\sqrt y) = \frac14 \operatorname{sech}^2(\sqrt y/2) = \frac14 (1 - h(y))$. As $h$ is
# concave and rises, $g_S$ is convex and falls; it is positive. Then $g_X = g_S^2$ falls, and
# $g_X'' = 2 g_S'^2 + 2 g_S g_S'' \ge 0$.
#
# (b) Below, by Jensen: $\mathbb E[g(qz^2) \mid \text{cell}] \ge g(q \bar s)$. Above, by the chord: for
# $z_i^2 \le s \le z_{i+1}^2$ convexity gives $g(q s) \le (1 - t)\, g(q z_i^2) + t\, g(q z_{i+1}^2)$ with
# $t = (s - z_i^2)/(z_{i+1}^2 - z_i^2)$, which is linear in $s = z^2$; so its mean has
# $t = (\bar s - z_i^2)/(z_{i+1}^2 - z_i^2)$. On the cell $[L, \infty)$: at most $g(q L^2)$, because $g$
# falls, and at least $g(q\bar s)$ or simply 0; its weight is $\operatorname{erfc}(L/\sqrt 2)$.
#
# (c) $\mathbb E\,g(qz^2)$ falls with $q$, because $g$ falls. So the lower sum at $q_b$ lies below all of them, and the
# upper sum at $q_a$ above.
#
# (Not asked: both bounds are exact for a linear $g$, so on a cell they differ by $g''$ times the square of the
# cell's length, times its weight, and in all by $O(n^{-2})$. Riemann's are exact only for a constant $g$: $O(n^{-1})$.)
#
# **Rubric.** (a) 1 point: $g_S$ from $1 - h$, and $g_X$ from the second derivative of a square, or from $g_X' = 2 g_S g_S'$
# (positivity, fall and convexity of $g_S$ used). (b) 1 point: Jensen and the chord, right way round (swapped: 0). 1 point:
# weights with $\bar s$ (half), and a valid bound on the infinite cell (half). (c) 1 point: the ends of the interval right way round,
# because the average falls with $q$; half without the reason.
# ### END SOLUTION

# %% [markdown]
# ## 4. An average with a bound on each side (8 points, 20 minutes)
#
# Here are Riemann's bounds, as a model: falling $g$, cells of equal length on $[0, L]$, and the tail.

# %% nbgrader="locked riemann"


def g_S(y):
    """Return the sigmoid's slope at x, y = x^2."""
    return (y.sqrt() / 2).sech() ** 2 / 4


def g_X(y):
    """Return the square of the sigmoid's slope at x, y = x^2."""
    return g_S(y) ** 2


def riemann(g, q_lo, q_hi, n, L=10):
    """Enclose E g(q z^2), z ~ N(0, 1), for every q in [q_lo, q_hi], for falling g >= 0.

    g: function of an arb y >= 0; 0 <= q_lo <= q_hi: floats or exact arbs; n: number of cells.
    Returns one arb that holds all the values.
    """
    z = [arb(L) * i / n for i in range(n + 1)]
    below = [(x / arb(2).sqrt()).erf() for x in z]  # the probability of |z| < x
    lower, upper = arb(0), (arb(L) / arb(2).sqrt()).erfc() * g(q_lo * arb(L) ** 2)
    for i in range(n):
        w = below[i + 1] - below[i]
        lower += w * g(q_hi * z[i + 1] ** 2)
        upper += w * g(q_lo * z[i] ** 2)
    return lower.union(upper)


riemann(g_X, 20.0, 20.0, 100), riemann(g_X, 20.0, 20.0, 200)

# %% [markdown]
# Write `mean_enclosure(g, q_lo, q_hi, n)` with the bounds of question 3 on $n$ cells and a tail. Now $g$ is positive, falling
# **and convex**. It must hold every value for every such $g$, and its width at one $q$ must fall as $n^{-2}$.
# Per cell you need $\mathbb E[z^2;\, a < |z| < b] = w + \sqrt{2/\pi}\,(a e^{-a^2/2} - b e^{-b^2/2})$, by
# integration by parts. (Balls from `arb(…)` round for you; you may round floats outwards instead. Keep $L$ at 10 as in
# `riemann`: farther out $\operatorname{erf}(b) - \operatorname{erf}(a)$ has no digits left at 128 bits, and the ball of $w$ holds 0; there you would need
# differences of erfc.)

# %% nbgrader="solution mean-enclosure"


def mean_enclosure(g, q_lo, q_hi, n):
    """Enclose E g(q z^2), z ~ N(0, 1), for every q in [q_lo, q_hi]; g >= 0 falls and is convex.

    g: function of an arb y >= 0; 0 <= q_lo <= q_hi: floats or exact arbs; n: number of cells.
    Returns one arb that holds all the values.
    """
    ### BEGIN SOLUTION
    L = arb(10)
    z = [L * i / n for i in range(n + 1)]
    s = [x * x for x in z]
    below = [(x / arb(2).sqrt()).erf() for x in z]
    edge = [(2 / arb.pi()).sqrt() * x * (-x * x / 2).exp() for x in z]
    at_edge = [g(q_lo * y) for y in s]
    lower, upper = arb(0), (L / arb(2).sqrt()).erfc() * at_edge[-1]
    for i in range(n):
        w = below[i + 1] - below[i]
        second = w + edge[i] - edge[i + 1]
        t = (second - w * s[i]) / (s[i + 1] - s[i])
        lower += w * g(q_hi * second / w)
        upper += (w - t) * at_edge[i] + t * at_edge[i + 1]
    return lower.union(upper)
    ### END SOLUTION


# %% nbgrader="tests mean-enclosure-tests 8" mflib="noticed"
marks = classroom.Marks(8)
with marks.part(
    1,
    "At q = 0 the ball holds g(0), and at q = 20 it lies within Riemann's of 100 cells.",
    hint="At q = 0 both sums are g(0) times the sum of all weights, the tail's included.",
    by_hand=True,
):
    at_zero = mean_enclosure(g_X, 0.0, 0.0, 100)
    assert isinstance(at_zero, arb), "It does not return one arb."
    assert at_zero.contains(arb(1) / 16), "The ball at q = 0 does not hold 1/16."
    assert at_zero.rad() < 1e-6, "The ball at q = 0 is wide."
    assert riemann(g_X, 20.0, 20.0, 100).contains(mean_enclosure(g_X, 20.0, 20.0, 100))
### BEGIN HIDDEN TESTS
from mflib.theory import sigmoid as certified

mine_graded = classroom.graded()
_rng = np.random.default_rng([mine_graded.gain, round(100 * mine_graded.mu)])


def exponential(y):
    return (-y).exp()


def rational(y):
    return 1 / (1 + y)


def slope_squared(y):  # not the notebook's g_X, which a student may rebind
    return (y.sqrt() / 2).sech() ** 4 / 16


def slope_once(y):
    return (y.sqrt() / 2).sech() ** 2 / 4


def thirds(y):
    return 1 / (3 + y)


def hinge(c):
    """Return a convex function with a kink at y = c, for which no smoothness helps."""
    return lambda y: (arb(c) - y).max(arb(0))


def right_hinge(c, q):
    b = (arb(c) / arb(q)).sqrt()
    inside = (b / arb(2).sqrt()).erf()
    return arb(c) * inside - arb(q) * (inside - (2 / arb.pi()).sqrt() * b * (-b * b / 2).exp())


def right_rational(q):
    v = 1 / (2 * arb(q))
    return (arb.pi() * v).sqrt() * v.exp() * v.sqrt().erfc()


RIGHT = {
    exponential: lambda q: 1 / (1 + 2 * arb(q)).sqrt(),
    rational: right_rational,
    slope_squared: lambda q: certified.mean_square_slope(float(q), bits=128),
    slope_once: lambda q: certified.mean_slope(float(q), bits=128),
}
_lengths = [float(x) for x in 10.0 ** _rng.uniform((-2, -0.3, 0.5, 1, 1.5), (-1, 0.5, 1, 1.5, 2))]
_known = {g: [(q, _right(q)) for q in _lengths] for g, _right in RIGHT.items()}
_kinks = [(float(c), right_hinge(float(c), 2.0)) for c in _rng.uniform(0.18, 1.0, 16)]
with ctx.workprec(300):  # so that a ball of 128 bits that holds 1/3 holds this one
    _third = arb(1) / 3
_intervals = [(q, q * float(r)) for q, r in zip(_lengths, _rng.uniform(1.01, 1.5, 5), strict=True)]
_within = {
    g: [(a, b, [_right(x) for x in np.linspace(a, b, 4)]) for a, b in _intervals]
    for g, _right in RIGHT.items()
}


def ball(returned):
    """Take a finite ball, and refuse anything else with a note."""
    if not isinstance(returned, arb):
        classroom.same(returned, True)  # notes None
        raise TypeError("not a ball")
    classroom.close(float(returned.mid()), 0.0, atol=np.inf)
    return returned


def holds(returned, value):
    classroom.same(bool(ball(returned).contains(value)), True)


with marks.part(
    1,
    "With many cells it holds the right value of two averages of the sigmoid.",
    hint="Jensen bounds a convex function's mean from below and the chord from above. Is the tail there?",
    by_hand=True,
):
    for g in (slope_squared, slope_once):
        for q, value in _known[g]:
            holds(mean_enclosure(g, q, q, 150), value)
with marks.part(
    1,
    "It holds the right value of other averages, with few cells and with many.",
    hint="With 3 cells only a bound that is proved holds; an estimate of the error does not.",
    by_hand=True,
):
    for g in (exponential, rational):
        for q, value in _known[g]:
            for n in (1, 2, 3, 7, 40, 150):
                holds(mean_enclosure(g, q, q, n), value)
    for c, value in _kinks:
        for n in (40, 150):
            holds(mean_enclosure(hinge(c), 2.0, 2.0, n), value)
with marks.part(
    1,
    "It holds every value on an interval of q.",
    hint="The average falls with q: which end gives the lower sum?",
    by_hand=True,
):
    for g, _cases in _within.items():
        for a, b, values in _cases:
            _answer = mean_enclosure(g, a, b, 120)
            for value in values:
                holds(_answer, value)
with marks.part(
    2,
    "The width at one q falls as the inverse square of the number of cells.",
    hint="Both bounds are to be exact for a linear g of y = q z^2. The mean of z^2 is not the middle.",
    by_hand=True,
):
    for g in (exponential, rational, slope_squared):
        for q, value in _known[g]:
            if q > 0.5:  # below, rounding of a radius could be all of the width
                widths = []
                for n in (200, 800):
                    _answer = mean_enclosure(g, q, q, n)
                    holds(_answer, value)
                    widths.append(2 * float(ball(_answer).rad()))
                # 1/16 if the width is c/n^2; 0.09 leaves room for the next order, and 1/4 is order 1
                classroom.same(widths[1] <= 0.09 * widths[0] + 1e-12, True)

# To leading order the two bounds differ on each cell by half of g'' times (variance of y + mean of
# (y - y_i)(y_{i+1} - y)), in all by (h^2/2) q^2 E z^2 g''(q z^2); for 1/(1 + y), g'' = 2/(1 + y)^3.
_nodes = np.linspace(0, 10, 20_001)
_density = np.exp(-(_nodes**2) / 2) / np.exp(-(_nodes**2) / 2).sum()
allowed = {
    (a, b): 0.5
    * (16 / 240) ** 2
    * a**2
    * float(_density @ (2 * _nodes**2 / (1 + a * _nodes**2) ** 3))
    for a, b in _intervals
}
with marks.part(
    1,
    "On an interval of q it is hardly wider than the values themselves.",
    hint="An interval's ball is the range of the values, plus the width that the cells cost.",
    by_hand=True,
):
    for a, b, values in _within[rational]:
        _answer = mean_enclosure(rational, a, b, 240)
        spread = float(values[0] - values[-1])
        holds(_answer, values[0])
        # cells of up to 16/240, and b at most 1.5 a, which changes q^2 E z^2 g'' by less than 2.25
        classroom.same(2 * float(ball(_answer).rad()) <= spread + 2.25 * allowed[a, b], True)
with marks.part(
    1,
    "Rounding is enclosed: at q = 0 the ball holds g(0) for any number of cells.",
    hint="There the two sums agree, and only outward rounding is left to hold the value.",
    by_hand=True,
):
    for n in (1, 2, 3, 5, 7, 11, 23, 50, 101, 150):
        for g, value in ((slope_squared, arb(1) / 16), (thirds, _third)):
            _answer = mean_enclosure(g, 0.0, 0.0, n)
            holds(_answer, value)
            classroom.same(float(_answer.rad()) < 1e-6, True)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# ## 5. Every step of an iteration is a theorem (4 points, 15 minutes)
#
# Now the theorem. Your networks have the activation $\varphi_\mu(x) = 1/(1+e^{-x}) - \mu$, with a part $\mu$ = `mine.mu`
# of the mean taken away, $0 \le \mu < \frac12$, and biases of variance $\sigma_b^2 \ge \beta$ with $\beta$ = `mine.sigma_b2_min`. Write
# $V_\mu(q) = \mathbb E\,\varphi_\mu(\sqrt q z)^2$; a network is critical with fixed point $q$ when
# $\sigma_w^2 X(q) = 1$ and $q = \sigma_w^2 V_\mu(q) + \sigma_b^2$. (Whether the length map is drawn to that $q$ is not asked.)
#
# (a) Show $V_\mu = V - \mu(1 - \mu) = \frac12 - S - \mu(1 - \mu)$, and that it is positive and rises with $q$.
#
# (b) Let $T(a) = \beta + V_\mu(a)/X(a)$ for $a \ge 0$. Show: **if every critical network has $q \ge a$, then every
# critical network has $q \ge T(a)$.**
#
# (c) Conclude that for $a_0 = 0$ and $0 \le a_{j+1} \le T(a_j)$ every $1/X(a_j)$ is a proved lower bound on $\sigma_w^2$, and that neither
# convergence nor the uniqueness of a root nor Lemma 4 is needed. What, compared with the chapter's theorem, remains unproved?

# %% [markdown] nbgrader="essay iteration 4"
# ### BEGIN SOLUTION
# (a) $\mathbb E(\varphi - \mu)^2 = V - 2\mu\,\mathbb E\varphi + \mu^2 = V - \mu + \mu^2$ as $\mathbb E\varphi = \frac12$,
# and $V = \frac12 - S$. $S$ falls with $q$ (Lemma 1), so $V_\mu$ rises from
# $V_\mu(0) = (\frac12 - \mu)^2 > 0$ as $\mu \ne \frac12$.
#
# (b) Let a network be critical with fixed point $q$. Then $\sigma_w^2 = 1/X(q)$ and
# $\beta \le \sigma_b^2 = q - V_\mu(q)/X(q)$, so $q \ge \beta + V_\mu(q)/X(q) = T(q)$. $V_\mu > 0$ rises and
# $X > 0$ falls, so $T$ rises. By assumption $q \ge a$, hence $q \ge T(q) \ge T(a)$. ($V_\mu \ge 0$ is enough, so
# that the same holds for $\mu = \frac12$.)
#
# (c) $q \ge 0 = a_0$ for every network. By induction $q \ge T(a_j) \ge a_{j+1}$; a number rounded down is
# still a bound, as long as it is not negative, where $T$ is not defined. $1/X$ rises, so $\sigma_w^2 = 1/X(q) \ge 1/X(a_j)$ for each $j$. If the
# iteration stopped early the bound would be weaker, and still true. A lower bound only excludes: that a
# critical network with about this $\sigma_w^2$ *exists* (that the bound is sharp, and the minimum attained at
# $\sigma_b^2 = \beta$) is not shown. For that one needs a $q$ with $q - V_\mu(q)/X(q) \ge \beta$ near the
# last $a_j$, one more evaluation; that there is a single root needs Lemma 4.
#
# **Rubric.** (a) 1 point, with positivity at $q = 0$ (half without). (b) 2 points: $q \ge T(q)$ from
# $\sigma_b^2 \ge \beta$ (1), and $T(q) \ge T(a)$ from the monotony of both factors, where $V_\mu > 0$ is used (1).
# (c) 1 point: induction with rounding downwards, *and* that sharpness or existence is what is left open; half for one.
# ### END SOLUTION

# %% [markdown]
# ## 6. Your theorem (7 points, 15 minutes)
#
# Write `sigma_w2_bound(mu, sigma_b2_min)`, which returns a number that $\sigma_w^2$ of **every**
# critical network with that $\mu$ and $\sigma_b^2 \ge$ `sigma_b2_min` is proved to exceed or equal. Of a ball the
# lower end counts. A bound above the truth is no bound and earns nothing, and a number that is not proved earns hardly anything.
# A valid bound earns more the closer it comes: within 5 %, 0.5 % and 0.05 % of the best possible. It may take ten seconds a call.
#
# Every average in it comes from `mean_enclosure`, or from `riemann`, which does for a part of the points; call them by
# these names, as hidden tests put other valid enclosures in their place, much wider ones too. Begin the iteration with few cells,
# and see that it ends. To see how close you are, run it to its end also with the *other* ends of the balls: the best
# possible bound lies between.

# %% nbgrader="solution bound"


def sigma_w2_bound(mu, sigma_b2_min):
    """Return a proved lower bound on sigma_w2 of critical networks, 0 <= mu <= 1/2.

    mu, sigma_b2_min: floats, taken exactly.  Returns a float or an arb.
    """
    ### BEGIN SOLUTION
    offset = arb(mu) * (1 - arb(mu))
    q = arb(0)
    # every step is a bound already: coarse cells bring q near, fine ones finish
    for n in (100, 400, 2000):
        while True:
            X, S = mean_enclosure(g_X, q, q, n), mean_enclosure(g_S, q, q, n)
            reach = (arb(sigma_b2_min) + (arb(1) / 2 - S - offset) / X).lower()
            if not reach > q * (1 + arb(1) / n**2):
                break
            q = reach
    return (1 / mean_enclosure(g_X, q, q, 2000)).lower()
    ### END SOLUTION


sigma_w2_bound(mine.mu, mine.sigma_b2_min)

# %% nbgrader="tests bound-tests 7" mflib="noticed"
marks = classroom.Marks(7)


class Endless(BaseException):
    """An iteration that asks for averages again and again."""


def few_cells(g, q_lo, q_hi, n, L=10, left=[300_000], enclose=riemann):  # noqa: B006
    """Do as riemann does, until all calls together have used up the cells."""
    left[0] -= n
    if left[0] < 0:
        raise Endless("stopped after 300,000 cells: do your iterates leave 0, where T(0) = 0?")
    return enclose(g, q_lo, q_hi, n, L)


ends = []
with marks.part(
    1,
    "Without any mean and bias, mu = 1/2 and sigma_b2 >= 0, it finds the chapter's 16, from below.",
    hint="There T(0) = 0: the bound is 1/X(0), and no iterate may be below 0.",
    by_hand=True,
):
    classroom.beside(
        lambda: ends.append(arb(sigma_w2_bound(0.5, 0.0)).lower()),
        mean_enclosure=few_cells,
        riemann=few_cells,
    )
    assert ends[-1] <= 16, "The bound is above 16, where critical networks exist."
    assert ends[-1] > 15.5, "The bound is valid and far below 16."
### BEGIN HIDDEN TESTS
from scipy.optimize import brentq

from mflib.theory import sigmoid as certified_by_book

mine_graded = classroom.graded()
_rng = np.random.default_rng([round(100 * mine_graded.mu), round(100 * mine_graded.sigma_b2_min)])


def _right_enclosure(g, q_lo, q_hi, n, L=10):
    """Enclose E g(q z^2) by Jensen and the chord, whatever was answered to question 4."""
    z = [arb(L) * i / n for i in range(n + 1)]
    below = [(x / arb(2).sqrt()).erf() for x in z]
    edge = [(2 / arb.pi()).sqrt() * x * (-x * x / 2).exp() for x in z]
    at_edge = [g(q_lo * x * x) for x in z]
    lower, upper = arb(0), (arb(L) / arb(2).sqrt()).erfc() * at_edge[-1]
    for i in range(n):
        w = below[i + 1] - below[i]
        second = w + edge[i] - edge[i + 1]
        t = (second - w * z[i] ** 2) / (z[i + 1] ** 2 - z[i] ** 2)
        lower += w * g(q_hi * second / w)
        upper += (w - t) * at_edge[i] + t * at_edge[i + 1]
    return lower.union(upper)


class _Enough(Exception):
    """More cells were asked for than a bound needs, as by who waits for a narrow ball."""


_wider, _cells = 0.03, [0]


def _wide_enclosure(g, q_lo, q_hi, n, L=10):
    """Enclose E g(q z^2) in a ball that is 3 % too wide on each side."""
    _cells[0] += n
    if _cells[0] > 100_000:
        raise _Enough
    return _right_enclosure(g, q_lo, q_hi, n) * arb(1, _wider)


def _best(mu, sigma_b2_min, wider=0.0):
    """Return the smallest sigma_w2 with a critical network; its error is far below 1e-9.

    With `wider`, the best bound that can be proved if S and X are known to that relative error.
    """

    def X(q):
        return (1 + wider) * float(certified_by_book.mean_square_slope(q, bits=64))

    def missing(q):
        S = 0.5 - float(certified_by_book.mean_square(q, bits=64))
        return q - (0.5 - (1 + wider) * S - mu * (1 - mu)) / X(q) - sigma_b2_min

    return 1 / X(brentq(missing, 0.0, 80.0, xtol=1e-11))


def lower_end(returned):
    """Return the number that an answer stands for, as a float."""
    if isinstance(returned, arb):
        returned = float(returned.lower())
    classroom.close(returned, 0.0, atol=np.inf)
    return float(np.asarray(returned, dtype=float).reshape(()))


def proved(bound_, least, tolerance):
    """Refuse what exceeds the least sigma_w2, or falls short of it by more than the tolerance."""
    classroom.close(bound_, least, rtol=tolerance)
    # 1e-9 is room for rounding of `least` and of the answer to floats
    classroom.same(bound_ <= least * (1 + 1e-9), True)


_own = (mine_graded.mu, mine_graded.sigma_b2_min)
_others = [(0.0, 0.0), (float(_rng.uniform(0.2, 0.35)), float(_rng.uniform(5.0, 9.0)))]
_right = {case: _best(*case) for case in (_own, *_others)}
_right_wide = _best(*_own, _wider)
first_length = _own[1] + 16 * (0.5 - _own[0]) ** 2  # T(0)
first_step = 1 / float(certified_by_book.mean_square_slope(first_length, bits=64))
_bounds = []  # those of one's own networks that are valid


def is_valid():
    """Note a bound that is valid and uses the iteration."""
    found = lower_end(sigma_w2_bound(*_own))
    classroom.same(first_step < found <= _right[_own] * (1 + 1e-9), True)
    _bounds.append(found)


def is_proved():
    """Refuse a bound that claims more than the enclosures that it is given can prove."""
    _cells[0] = 0
    try:
        # an imperceptibly other bias variance, as one may keep averages that were needed before
        found = lower_end(sigma_w2_bound(_own[0], _own[1] * (1 + 1e-9)))
    except _Enough:  # it looks at the widths
        return
    classroom.same(found <= _right_wide * (1 + 1e-6) and found < 0.98 * _bounds[-1], True)


_failures = len(marks.failed)
with marks.part(
    1,
    "The bound for your networks is valid, and better than that of T(0).",
    hint="Below or above? In V/X the lower end comes from a small V and a large X.",
    by_hand=True,
):
    classroom.beside(is_valid, mean_enclosure=_right_enclosure)
with marks.part(
    1,
    "It is made from the enclosures: with wider ones it claims less.",
    hint="A bound that does not move when the enclosures widen is not proved by them.",
    by_hand=True,
):
    if _bounds:
        classroom.beside(is_proved, mean_enclosure=_wide_enclosure, riemann=_wide_enclosure)
    else:
        classroom.same(False, True)
# what is no bound, or not one's own, or not proved, is not paid for being near the best possible
_by_proof = len(marks.failed) == _failures
_answer = _bounds[-1] if _by_proof else -1.0
with marks.part(
    0.5,
    "It comes within 5 % of the best possible.",
    hint="Did the iteration stop early? Print the iterates, then the widths of the balls in them.",
):
    proved(_answer, _right[_own], 0.05)
with marks.part(
    0.5,
    "It comes within 0.5 % of the best possible.",
    hint="The rest is the width of the enclosures: how does it fall with the number of cells?",
):
    proved(_answer, _right[_own], 0.005)
with marks.part(
    1,
    "It comes within 0.05 % of the best possible.",
    hint="Riemann's bounds would need far too many cells for this; those of question 3 do not.",
):
    proved(_answer, _right[_own], 0.0005)


def elsewhere(case):
    """Judge the bound of other networks; who proved nothing for their own proves nothing here."""
    proved(lower_end(sigma_w2_bound(*case)), _right[case], 0.05)
    classroom.same(_by_proof or not _bounds, True)


with marks.part(
    1,
    "Without any mu and with every bias it proves the chapter's theorem, to 5 %.",
    hint="The chapter's value is to be approached from below, and by a proof.",
    by_hand=True,
):
    classroom.beside(lambda: elsewhere(_others[0]), mean_enclosure=_right_enclosure)
with marks.part(
    1,
    "For another part of the mean, and larger biases, it is valid and within 5 %.",
    hint="Are mu and sigma_b2_min those of the arguments, not yours? Is it a proof?",
    by_hand=True,
):
    classroom.beside(lambda: elsewhere(_others[1]), mean_enclosure=_right_enclosure)
### END HIDDEN TESTS
marks.total()

# %% [markdown]
# Compare your number with the chapter's 103 and with the 16 of the sigmoid without its mean.
#
# ## 7. "Not critical" and "ordered" (4 points, 10 minutes)
#
# A text uses your theorem: *"No network with $\sigma_w^2$ below the bound is critical. So all of them are
# ordered, $\chi_1 < 1$: gradients vanish with depth. And at any fixed bias variance, for every activation: below the
# smallest critical weight variance there is order."*
#
# The cell below draws $\chi_1$ for units with a threshold, $\varphi(x) = 1/(1 + e^{-2(x-2)})$, at $\sigma_b^2 = 0.1$,
# while $\sigma_w^2$ is raised slowly, and lowered again; the length map starts each time from where it was. The thin line holds
# every fixed point, also those that the length map leaves. "Critical" is meant as in question 5, so that such a point counts too.

# %% nbgrader="locked threshold"
grid = np.linspace(-9, 9, 2001)
normal = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()


def averages(q):
    """Return V(q) and X(q) of the unit with a threshold."""
    phi = 1 / (1 + np.exp(-2 * (np.sqrt(q) * grid - 2)))
    return normal @ phi**2, normal @ (2 * phi * (1 - phi)) ** 2


def along(variances, q, sigma_b2=0.1):
    """Follow the length map's fixed point over sigma_w2; return chi_1 there."""
    chi_1 = []
    for sigma_w2 in variances:
        for _ in range(400):
            q = sigma_w2 * averages(q)[0] + sigma_b2
        chi_1.append(sigma_w2 * averages(q)[1])
    return np.array(chi_1)


# q is a fixed point at exactly one sigma_w2, so that q runs along all of them
lengths = np.geomspace(0.1001, 60, 2000)
V_all, X_all = np.array([averages(q) for q in lengths]).T
variances_all = (lengths - 0.1) / V_all
chi_all = variances_all * X_all
for i in np.flatnonzero(np.diff(np.sign(chi_all - 1))):
    print(f"critical at sigma_b2 = 0.1: sigma_w2 = {variances_all[i]:.1f}, q = {lengths[i]:.2f}")

variances = np.arange(20.0, 100.5, 1.0)
fig, ax = plt.subplots(figsize=(6.4, 3.6))
ax.axhline(1, color="0.6", lw=1)
ax.plot(variances_all, chi_all, "k-", lw=0.7, label="every fixed point")
ax.plot(variances, along(variances, 0.1), "o-", ms=3, label=r"$\sigma_w^2$ raised")
ax.plot(variances[::-1], along(variances[::-1], 60.0), "s-", ms=3, label="lowered")
ax.set(xlabel=r"weight variance $\sigma_w^2$", ylabel=r"susceptibility $\chi_1$")
ax.set(xlim=(18, 102), ylim=(0, 1.05 * chi_all[variances_all < 102].max()))
_ = ax.legend()

# %% [markdown]
# (a) Which step of the first two sentences does the theorem not give?
# (b) Does it matter for $\varphi_\mu$? Close the gap, or show that it cannot be closed.
# (c) Refute the last sentence with the figure. Name what $\varphi_\mu$ has and this unit lacks.

# %% [markdown] nbgrader="essay gap 4"
# ### BEGIN SOLUTION
# (a) "Not critical" is $\chi_1 \ne 1$. That leaves $\chi_1 > 1$: the theorem as stated would be true if all
# networks below the bound were chaotic.
#
# (b) The gap can be closed. The proof of question 5 holds word by word for networks with $\chi_1 \ge 1$: let $q$ be
# a fixed point with $\sigma_w^2 \ge 1/X(q)$. Then $\sigma_b^2 \ge \beta$ gives $q = \sigma_w^2 V_\mu(q) + \sigma_b^2 \ge V_\mu(q)/X(q) + \beta = T(q)$,
# so $q \ge a_j$ for every $j$ as before, and $\sigma_w^2 \ge 1/X(q) \ge 1/X(a_j)$. So below the bound $\chi_1 < 1$ at every fixed point.
#
# Another proof takes only the theorem's words: if a network with fixed point $q$ has $\chi_1 > 1$, lower $\sigma_w^2$ to $1/X(q)$ and raise $\sigma_b^2$ by
# as much as keeps $q$ fixed. The network is now critical, its bias variance still at least $\beta$ and its $\sigma_w^2$ smaller than before; so the first one was
# not below the bound.
#
# A third: $V_\mu$ is $V$ less a constant, so Lemma 2 holds with the same proof for $\mu \ne \frac12$: one fixed point, crossed with slope
# $\sigma_w^2 V_\mu' < 1$. So $\chi_1$ is continuous in $\sigma_w^2$ at fixed $\sigma_b^2$, tends to 0 with $\sigma_w^2$, and cannot exceed 1
# without being 1 before.
#
# (c) At $\sigma_b^2 = 0.1$ the only critical network has $\sigma_w^2 \approx 56.6$. Yet on the way back the networks are chaotic down to
# $\sigma_w^2 \approx 32$, with $\chi_1 \approx 1.3$ there: below the smallest critical weight variance, and not ordered. $\chi_1$ jumps over 1, up near 84
# and down near 32, at the folds of the length map ($\sigma_w^2 V' = 1$), which are no points with $\chi_1 = 1$; the critical network lies on
# the branch between, which the length map leaves. What $\varphi_\mu$ has: $X$ falls with $q$, and so $T$ rises. (If $\chi_1 > 1$ at $q$, then
# $T(q) < q$ with that $\sigma_b^2$ in the place of $\beta$, and $T$ has a fixed point $q' < q$: a critical network with the same bias variance and with
# $1/X(q') < 1/X(q)$.) The threshold unit's $X$ rises first, up to $q \approx 3.7$. As good an answer: $\varphi_\mu$ has a concave length map with one
# fixed point, which moves continuously; the unit's $V$ is convex for small $q$, and three fixed points exist.
#
# (Not asked: over all $\sigma_b^2 \ge \beta$ together the last sentence is true for every activation, by the second proof of (b). For this unit the smallest
# critical $\sigma_w^2$ with $\sigma_b^2 \ge 0.1$ is 24.8, at $\sigma_b^2 = 0.90$.)
#
# **Rubric.** (a) 1 point: $\chi_1 > 1$ is not excluded by $\chi_1 \ne 1$. (b) 2 points: any complete proof; 1 for one with a gap that
# can be closed, such as continuity of $\chi_1$ without the reason, or small $\sigma_w^2$ not looked at. Beware: "$\chi_1$ rises with $\sigma_w^2$, as
# the chapter shows" is such a gap. The chapter's step needs $V_\mu > S$, and at $q = 0$ that is $(\frac12 - \mu)^2 > \frac14$, which is false for every $\mu > 0$.
# (c) 1 point: chaotic networks below 56.6 (half); a falling $X$ or rising $T$, *or* one fixed point or a concave length map (half).
# ### END SOLUTION
