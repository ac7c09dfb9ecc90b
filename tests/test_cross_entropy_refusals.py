"""What cross_entropy refuses, in every implementation: with what was wanted and what came."""

from __future__ import annotations

import numpy as np
import pytest

import kernels
from tests.kernel_checks import operator

each_implementation = pytest.mark.parametrize("implementation", kernels.names("cross_entropy"))

X = np.zeros((2, 3), "float32")
T = np.zeros(2, "int64")


@each_implementation
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([[1.0]], T), TypeError, "input must be a NumPy array, got list"),
        ((X.astype(int), T), TypeError, "input must be float32 or float64, got int64"),
        ((X[0, 0:1].reshape(()), T), ValueError, "input must have 1 or"),
        ((X, [0, 1]), TypeError, "target must be a NumPy array, got list"),
        ((X, T.astype("int32")), TypeError, "target must be int64 or uint8 labels.*got int32"),
        ((X, T.astype(bool)), TypeError, "target must be int64 or uint8 labels.*got bool"),
        ((X[:, :, None], T[:, None].astype("uint8")), TypeError, "target must be int64 labels"),
        ((X, np.array([0, 3])), IndexError, "target must be a class from 0 to 2.*got 3"),
        ((X, np.array([-1, 0])), IndexError, "target must be a class.*there are 3.*got -1"),
        ((X, T[:1]), ValueError, r"target must have shape \(2,\).*got \(1,\)"),
        ((X, T[:, None]), ValueError, r"target must have shape \(2,\).*got \(2, 1\)"),
        ((X, X.astype("float64")), TypeError, "target must be float32 as the input is"),
        ((X, X[:, :2]), ValueError, r"must have input's shape \(2, 3\), got \(2, 2\)"),
        ((X, X, None, 1), ValueError, "ignore_index must be negative.*got 1"),
        ((X, T, None, 0.5), TypeError, r"ignore_index must be a whole number, got 0\.5"),
        ((X, T, X[0, :2]), ValueError, r"weight must have shape \(3,\).*got \(2,\)"),
        ((X, T, X), ValueError, "weight must have 1 dimensions"),
        ((X, T, X[0].astype("float64")), TypeError, "weight must be float32 as the input is"),
        ((X, T, None, -100, "max"), ValueError, "reduction must be one of none, mean, sum"),
        ((X, T, None, -100, None), ValueError, "reduction must be one of.*got None"),
        ((X, T, None, -100, "sum", 1.5), ValueError, r"label_smoothing must be.*got 1\.5"),
        ((X, T, None, -100, "sum", np.nan), ValueError, "label_smoothing must be from 0 to 1"),
        ((X, T, None, -100, "sum", np.float32(2)), ValueError, r"label_smoothing must.*got 2\.0"),
        ((X, T, None, -100, "sum", np.True_), TypeError, "label_smoothing must be a number"),
        ((X, T, None, -100, "sum", "a"), TypeError, "label_smoothing must be a number, got 'a'"),
    ],
)  # fmt: skip
def test_forward_refuses(implementation, arguments, error, match):
    with pytest.raises(error, match=match):
        operator("cross_entropy", implementation).forward(*arguments)


@each_implementation
@pytest.mark.parametrize(
    ("grad_output", "reduction", "error", "match"),
    [
        (X[0, 0], "mean", TypeError, "grad_output must be a NumPy array"),
        (X[0], "mean", ValueError, "grad_output must have 0 dimensions"),
        (X[0], "none", ValueError, r"grad_output must have shape \(2,\), got \(3,\)"),
        (np.zeros((), "float64"), "sum", TypeError, "grad_output must be float32 as the input is"),
    ],
)
def test_backward_refuses(implementation, grad_output, reduction, error, match):
    with pytest.raises(error, match=match):
        operator("cross_entropy", implementation).backward(grad_output, X, T, reduction=reduction)
