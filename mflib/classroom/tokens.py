"""Tokens: short words that stand for a student's id and give every student numbers of their own."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import unicodedata
from pathlib import Path

# A prime number of symbols, none of which is easily taken for another: a weighted sum modulo a
# prime finds every wrong symbol and every pair that changed places.
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
LENGTH = 12
KEY = "token.key"  # the file in a course's folder from which its tokens follow


class BadToken(ValueError):
    """What was typed is not a token."""


def _check_symbol(body: str) -> str:
    """Return the last symbol of a token: minus the sum of place times value, modulo 31."""
    total = sum(place * ALPHABET.index(symbol) for place, symbol in enumerate(body, 1))
    # LENGTH is the weight of the check symbol itself
    return ALPHABET[-total * pow(LENGTH, -1, len(ALPHABET)) % len(ALPHABET)]


def _grouped(symbols: str) -> str:
    return "-".join(symbols[i : i + 4] for i in range(0, len(symbols), 4))


def make(key: bytes, student: str) -> str:
    """Return a student's token: HMAC-SHA256 of the id under the key, and a check symbol.

    The id is taken in Unicode's NFC form without spaces at its ends, as rosters from different
    programs write it. 31¹¹ ≈ 2.6e16 tokens: in a course of 1,000 students two share one with a
    probability of 2e-11.

    Raises ValueError for an empty id or a key of fewer than 16 bytes.
    """
    student = unicodedata.normalize("NFC", student).strip()
    if not student:
        raise ValueError("student='' must be an id with at least one character")
    if len(key) < 16:
        raise ValueError(f"key has {len(key)} bytes, and must have at least 16: use new_key()")
    value = int.from_bytes(hmac.digest(key, b"mflib token\0" + student.encode(), "sha256"), "big")
    body = ""
    for _ in range(LENGTH - 1):
        value, place = divmod(value, len(ALPHABET))
        body += ALPHABET[place]
    return _grouped(body + _check_symbol(body))


def read(typed: object) -> str:
    """Return a typed token in its one written form; capitals, spaces and hyphens do not matter.

    Raises BadToken, with a sentence for the student, for anything that is not a token.
    """
    if not isinstance(typed, str):
        raise BadToken(f"A token is text between quotes, and this is {typed!r}.")
    symbols = "".join(typed.lower().split()).replace("-", "")
    if not symbols:
        raise BadToken("Type the token that your teacher gave you between the quotes.")
    unknown = sorted(set(symbols) - set(ALPHABET))
    if unknown:
        raise BadToken(
            f"No token contains {', '.join(map(repr, unknown[:3]))}: look at yours again. "
            "Tokens have neither 0, o, 1, i nor l."
        )
    if len(symbols) != LENGTH:
        raise BadToken(
            f"A token has {LENGTH} letters and digits, and this has {len(symbols)}: "
            "look at yours again."
        )
    if _check_symbol(symbols[:-1]) != symbols[-1]:
        raise BadToken("This is nobody's token: look for a wrong letter or two that swapped.")
    return _grouped(symbols)


def draw(token: str, *names: str, count: int) -> int:
    """Return an integer in [0, count), the same for the same token and names, by SHA-256."""
    digest = hashlib.sha256("\0".join((read(token), *names)).encode()).digest()
    return int.from_bytes(digest, "big") % count


def new_key() -> bytes:
    """Return a fresh random key of 32 bytes."""
    return secrets.token_bytes(32)


def load_key(path: Path) -> bytes:
    """Return the key that a file holds as hexadecimal digits.

    Raises ValueError, with the remedy, if the file is missing or holds something else.
    """
    try:
        key = bytes.fromhex(path.read_text().strip())
        if len(key) < 16:
            raise ValueError(f"{len(key)} bytes are too few")
    except FileNotFoundError:
        raise ValueError(
            f"there is no {path}: bring this course's key back, or run 'make tokens' to make one, "
            "which gives every student other numbers"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold a course's key ({error}): bring the copy back, or delete it and "
            "run 'make tokens' to make one, which gives every student other numbers"
        ) from None
    return key
