"""Is a result the expected one? Decided before anything is timed, and once more afterwards.

Comparison is dispatched on the type of the expected value; torch is looked at only where something
already imported it. Shape comes first, then dtype, then values. Without a tolerance every value
has to be equal, and NaN equals nothing but NaN.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pytest_speedup.records import Proof

Bound = Callable[[Any], Any]
"""A bound of one's own: expected value -> largest allowed |actual - expected|, elementwise."""


class ProofError(AssertionError):
    """A result is not the expected one; the arm that made it has no time."""


@dataclass(frozen=True)
class Tolerance:
    """|actual - expected| <= atol + rtol |expected|, or <= a bound of one's own."""

    rtol: float = 0.0
    atol: float = 0.0
    bound: Bound | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing but equality is allowed."""
        return self.bound is None and self.rtol == 0.0 and self.atol == 0.0

    def __str__(self) -> str:
        if self.bound is not None:
            doc = (self.bound.__doc__ or "").strip().splitlines()
            return doc[0] if doc else getattr(self.bound, "__name__", "a bound of one's own")
        parts = [f"{name}={v:g}" for name, v in (("rtol", self.rtol), ("atol", self.atol)) if v]
        return " ".join(parts) or "exact"


@dataclass
class _Worst:
    """The largest difference met so far, over all leaves of a nested result."""

    error: float = 0.0
    bitwise: bool = True
    path: list[str] = field(default_factory=list)

    def where(self) -> str:
        return f" at result{''.join(self.path)}" if self.path else ""


def tolerance_of(given: object) -> Tolerance:
    """Read the `tolerance` argument of the fixture.

    None is exact, a mapping gives `rtol` and `atol`, a callable is a bound of one's own. Raises
    TypeError or ValueError, in words that name what is allowed, for anything else.
    """
    if given is None:
        return Tolerance()
    if isinstance(given, Tolerance):
        return given
    if callable(given):
        return Tolerance(bound=given)
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - {"rtol", "atol"})
        if unknown:
            raise ValueError(f"tolerance has the unknown key {unknown[0]!r}; allowed: rtol, atol")
        values = {name: float(value) for name, value in given.items()}
        for name, value in values.items():
            if not 0.0 <= value < math.inf:
                raise ValueError(f"tolerance {name} must be a number from 0 up, got {value!r}")
        return Tolerance(values.get("rtol", 0.0), values.get("atol", 0.0))
    raise TypeError(
        f"tolerance must be None, a mapping with rtol and atol, or a function from the expected "
        f"value to the largest allowed difference; got {type(given).__name__}"
    )


def prove(actual: object, expected: object, tolerance: Tolerance) -> Proof:
    """Compare a result with the expected value, or hand it to a check of one's own.

    A callable `expected` is such a check: it raises where the result is wrong and may return a
    mapping of facts to be kept with the time. Raises ProofError when the result is wrong.
    """
    __tracebackhide__ = True
    if callable(expected) and not _is_tensor(expected):
        facts = _facts(expected(actual), getattr(expected, "__name__", "the check"), actual)
        error = facts.pop("max_abs_error", None)
        if error is not None and not 0.0 <= float(error) < math.inf:
            raise ProofError(f"the check tells of a largest error of {error!r}")
        return Proof(
            bitwise=False,
            max_abs_error=None if error is None else float(error),
            tolerance=str(facts.pop("tolerance", "a check of its own")),
            check=True,
            facts=facts,
        )
    worst = _Worst()
    _compare(actual, expected, tolerance, worst)
    return Proof(
        bitwise=worst.bitwise,
        max_abs_error=worst.error,
        tolerance=None if tolerance.exact else str(tolerance),
        check=False,
        facts={},
    )


def _facts(verdict: object, name: str, actual: object) -> dict[str, float | int | str]:
    """What a check's answer says beside that the result is right; ProofError where it says no.

    Only a plain yes is one: a NumPy or torch boolean counts as Python's, any other answer could
    mean either.
    """
    __tracebackhide__ = True
    if verdict is None:
        return {}
    if isinstance(verdict, Mapping):
        return plain_facts(verdict)
    kind = str(getattr(verdict, "dtype", type(verdict).__name__))
    if kind not in ("bool", "torch.bool") or getattr(verdict, "shape", ()) != ():
        raise ProofError(
            f"{name} returned {_kind(verdict)}; a check raises where the result is wrong, or "
            f"returns True or False, and may return a mapping of facts"
        )
    if not verdict:
        raise ProofError(f"{name} returned False for a result of {_kind(actual)}")
    return {}


def plain_facts(facts: Mapping[Any, Any]) -> dict[str, float | int | str]:
    """Facts as JSON can hold them: numbers of NumPy and torch as Python's, all else as text."""
    plain: dict[str, float | int | str] = {}
    for name, fact in facts.items():
        value = fact.item() if getattr(fact, "shape", None) == () else fact
        plain[str(name)] = value if isinstance(value, (float, int, str)) else str(value)
    return plain


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")


def _compare(actual: Any, expected: Any, tolerance: Tolerance, worst: _Worst) -> None:
    __tracebackhide__ = True
    if _is_tensor(expected):
        _compare_tensors(actual, expected, tolerance, worst)
    elif isinstance(expected, np.ndarray | np.generic):
        _compare_arrays(actual, expected, tolerance, worst)
    elif isinstance(expected, Mapping):
        _same_type(actual, expected, worst)
        if list(map(str, actual)) != list(map(str, expected)):
            raise ProofError(f"wanted the keys {list(expected)}, got {list(actual)}{worst.where()}")
        for key in expected:
            _descend(actual[key], expected[key], f"[{key!r}]", tolerance, worst)
    elif isinstance(expected, list | tuple):
        _same_type(actual, expected, worst)
        if len(actual) != len(expected):
            raise ProofError(f"wanted {len(expected)} items, got {len(actual)}{worst.where()}")
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            _descend(a, e, f"[{i}]", tolerance, worst)
    else:
        _compare_plain(actual, expected, tolerance, worst)


def _descend(a: Any, e: Any, step: str, tolerance: Tolerance, worst: _Worst) -> None:
    __tracebackhide__ = True
    worst.path.append(step)
    _compare(a, e, tolerance, worst)
    worst.path.pop()


def _same_type(actual: object, expected: object, worst: _Worst) -> None:
    __tracebackhide__ = True
    if type(actual) is not type(expected):
        raise ProofError(f"wanted a {type(expected).__name__}, got {_kind(actual)}{worst.where()}")


def _compare_plain(actual: Any, expected: Any, tolerance: Tolerance, worst: _Worst) -> None:
    __tracebackhide__ = True
    _same_type(actual, expected, worst)
    if isinstance(expected, int | float | complex) and not isinstance(expected, bool):
        _compare_arrays(np.asarray(actual), np.asarray(expected), tolerance, worst)
    elif actual != expected:
        raise ProofError(f"wanted {expected!r:.200}, got {actual!r:.200}{worst.where()}")


def _compare_tensors(actual: Any, expected: Any, tolerance: Tolerance, worst: _Worst) -> None:
    __tracebackhide__ = True
    import torch

    _same_form(actual, expected, torch.Tensor, worst)
    a, e = actual.detach().cpu(), expected.detach().cpu()
    if torch.equal(a, e):
        return
    bound = None if tolerance.bound is None else torch.as_tensor(tolerance.bound(expected)).cpu()
    if bound is None:
        try:
            torch.testing.assert_close(
                a, e, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True
            )
        except AssertionError as error:
            raise ProofError(f"{error}{worst.where()}") from None
    wide = torch.complex128 if e.is_complex() else torch.float64
    difference = (a.to(wide) - e.to(wide)).abs()
    both_nan = a.isnan() & e.isnan()
    same_infinity = (a == e) & e.isinf()
    difference = difference.masked_fill(both_nan | same_infinity, 0.0)
    if bound is not None:
        _within(difference.numpy(), bound.to(torch.float64).numpy(), tolerance, worst)
    worst.error = max(worst.error, float(difference.max()))
    worst.bitwise = worst.bitwise and bool((difference == 0).all())


def _compare_arrays(actual: Any, expected: Any, tolerance: Tolerance, worst: _Worst) -> None:
    __tracebackhide__ = True
    _same_form(actual, expected, np.ndarray | np.generic, worst)
    a, e = np.asarray(actual), np.asarray(expected)
    if e.dtype.kind not in "biufc":
        if not np.array_equal(a, e):
            raise ProofError(f"arrays of {e.dtype} differ{worst.where()}")
        return
    if e.size == 0:
        return
    wide = np.complex128 if e.dtype.kind == "c" else np.float64
    if e.dtype.kind in "iu" and e.dtype.itemsize == 8:
        wide = np.longdouble
    a, e = a.astype(wide), e.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - e)
    alike = (np.isnan(a) & np.isnan(e)) | (a == e)
    difference = np.where(alike, 0.0, difference)
    if tolerance.bound is not None:
        allowed = np.asarray(tolerance.bound(expected), dtype=np.float64)
    else:
        with np.errstate(invalid="ignore"):
            allowed = tolerance.atol + tolerance.rtol * np.abs(e)
    _within(difference, allowed, tolerance, worst)
    worst.error = max(worst.error, float(difference.max()))
    worst.bitwise = worst.bitwise and bool((difference == 0).all())


def _same_form(actual: Any, expected: Any, kind: Any, worst: _Worst) -> None:
    __tracebackhide__ = True
    if not isinstance(actual, kind):
        raise ProofError(f"wanted {_kind(expected)}, got {_kind(actual)}{worst.where()}")
    if tuple(actual.shape) != tuple(expected.shape):
        raise ProofError(
            f"wanted the shape {tuple(expected.shape)}, got {tuple(actual.shape)}{worst.where()}"
        )
    if actual.dtype != expected.dtype:
        raise ProofError(f"wanted {expected.dtype}, got {actual.dtype}{worst.where()}")


def _within(difference: Any, allowed: Any, tolerance: Tolerance, worst: _Worst) -> None:
    """Raise unless every difference is finite and inside what is allowed; NaN never is."""
    __tracebackhide__ = True
    allowed = np.broadcast_to(allowed, difference.shape)
    wrong = (difference != 0) & ~(difference <= allowed) | np.isinf(difference)
    if not wrong.any():
        return
    i = tuple(int(k) for k in np.argwhere(wrong)[0])
    index = f"[{', '.join(map(str, i))}]" if i else ""
    raise ProofError(
        f"{int(wrong.sum())} of {difference.size} values are wrong{worst.where()}; the first is "
        f"{index or 'the value'}: off by {float(difference[i]):g}, allowed {float(allowed[i]):g} "
        f"({tolerance})"
    )
