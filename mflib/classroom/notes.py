"""What a step that failed may say about itself while it is graded: none of it is an answer."""

from __future__ import annotations

import builtins

NOTES = {
    "nothing": "It returned nothing: is there a return?",
    "number": "It is not a number.",
    "array": "It is not an array of numbers.",
    "shape": "It has another shape than asked for.",
    "finite": "It is not finite.",
    "value": "It differs from the right answer by more than the tolerance.",
    "package": "This step asks for your own code, and yours calls mflib.",
    "missing": "A name that the question asks for is not defined.",
    "open": "This is not answered yet.",
    "no token": "No token was typed in the first cell, or what was typed is none.",
    "other token": "The token typed in the first cell belongs to another id.",
    "check": "What this step asks for does not hold.",
    "error": "Your code stopped with an error of a package: run it to see which.",
    # Python's own errors by name: they help, and cannot carry anything either
    **{
        name: f"Your code stopped with an error: {name}."
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    },
}


class Wrong(AssertionError):
    """An answer that is not right, with the key of one of the ``NOTES``."""

    def __init__(self, note: str) -> None:
        super().__init__(NOTES[note])
        self.note = note
