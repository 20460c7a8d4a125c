"""Every tolerance of the theory's tests, in one table, each with where it comes from."""

from __future__ import annotations

# relative errors asked of float64 against 30-digit arithmetic, over σ_w² in [0.1, 25] and
# σ_b² in [0, 2]
LENGTH = 1e-10  # q*, χ₁, ξ_q, the critical line
ANGLE = 1e-8  # c* (absolute: c* may be 0), χ_c, ξ_c

# relative errors of one-Gaussian moments for q from 1e-12 to 1e6: some tens of roundings
MOMENT = 2e-14

# near the critical line a relative error ε of χ₁ is an error ε/|χ₁ − 1| of ξ_c; measured ε is
# below 3e-15, and 1e-14 leaves room for another processor's exp
CONDITION = 1e-14

# a pair expectation's own bound must hold; where it claims convergence, it is this small
PAIR = 1e-11

# what an analytic derivative leaves against a five-point difference with step 1e-3
DERIVATIVE = 1e-9

# widths: slopes of log error against log width, from the finite-width expansion
BIAS_SLOPE = (-1.0, 0.2)
SPREAD_SLOPE = (-0.5, 0.1)

# seconds of processor time on one core for the 100 × 100 grid, all six quantities
GRID_SECONDS = {"tanh": 1.5, "other": 4.0}

# spectra of the Jacobian: density and atoms together, moments by integration against closed forms
MASS = 1e-9
SPECTRAL_MOMENT = 1e-8

# seconds of processor time on one core for a curve of 400 points at depth 1024
SPECTRUM_SECONDS = 1.0
