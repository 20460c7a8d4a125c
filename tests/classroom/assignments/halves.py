# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Halves
#
# A small assignment with every kind of cell, for tests of the whole cycle.

# %%
from mflib import classroom

classroom.token("")  # between the quotes: the token that your teacher gave you

# %% nbgrader="locked numbers"
import numpy as np

mine = classroom.begin(
    "halves",
    whole=classroom.between(10, 5000, step=1),
    part=classroom.between(0.1, 0.9, step=0.001),
)
mine

# %% nbgrader="tests token 1" mflib="no help"
marks = classroom.Marks(1)
with marks.part(1, "The token is that of the id under which you hand in."):
    classroom.check_token()
### BEGIN HIDDEN TESTS
_for_later_tests = classroom.graded().part
### END HIDDEN TESTS
marks.total()


# %% nbgrader="solution half"
def half(x):
    """Return half of x, a number or an array of numbers."""
    ### BEGIN SOLUTION
    return np.asarray(x) * 0.5
    ### END SOLUTION


# %% nbgrader="tests half-tests 4" mflib="no help"
marks = classroom.Marks(4)
with marks.part(1, "Half of 2 is 1."):
    classroom.close(half(2.0), 1.0, atol=1e-12)
### BEGIN HIDDEN TESTS
hidden_points = np.random.default_rng(20260104).normal(size=5)
with marks.part(2, "Half of negative numbers is right too.", hint="Does it treat signs alike?"):
    classroom.close(half(-abs(hidden_points)), -abs(hidden_points) / 2, rtol=1e-12)
with marks.part(1, "An array of any shape will do."):
    classroom.close(
        half(hidden_points[:4].reshape(2, 2)), hidden_points[:4].reshape(2, 2) / 2, rtol=1e-12
    )
### END HIDDEN TESTS
marks.total()

# %% nbgrader="solution own"
### BEGIN SOLUTION
own_half = half(mine.whole)
### END SOLUTION

# %% nbgrader="tests own-tests 2" mflib="no help"
marks = classroom.Marks(2)
### BEGIN HIDDEN TESTS
with marks.part(2, "Half of your own number.", hint="The number is mine.whole."):
    classroom.close(own_half, classroom.graded().whole / 2, rtol=1e-9)
### END HIDDEN TESTS
marks.total()


# %% nbgrader="solution fixed"
def fixed_point(sigma_w2, sigma_b2):
    """Return q* of a linear network, q = sigma_w2 q + sigma_b2, by a formula of your own."""
    ### BEGIN SOLUTION
    return sigma_b2 / (1 - sigma_w2)
    ### END SOLUTION


# %% nbgrader="tests fixed-tests 3" mflib="noticed"
marks = classroom.Marks(3)
with marks.part(1, "Without weights only the bias is left.", by_hand=True):
    classroom.close(fixed_point(0.0, 0.3), 0.3, rtol=1e-12)
### BEGIN HIDDEN TESTS
right_fixed_point = 0.25 / (1 - _for_later_tests)
with marks.part(2, "The formula holds for your own variance.", by_hand=True):
    classroom.close(fixed_point(_for_later_tests, 0.25), right_fixed_point, rtol=1e-9)
### END HIDDEN TESTS
marks.total()

# %% [markdown] nbgrader="essay why 5"
# ### BEGIN SOLUTION
# The rubric of a written answer: a model answer and its points, for the teacher alone.
# ### END SOLUTION
