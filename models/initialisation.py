"""He initialisation in NumPy: every strategy starts from the same bits, with or without torch.

He, Zhang, Ren and Sun, "Delving Deep into Rectifiers" (ICCV 2015), equation 10: weights normal with
standard deviation sqrt(2 / fan_in), biases zero. The same as `torch.nn.init.kaiming_normal_` with
its nonlinearity "relu".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kernels.arrays import Array


def he_normal(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    """float32 by name; a shape of one dimension is a bias, others are [outputs, inputs, ...]."""
    rng = np.random.default_rng(seed)
    return {
        name: np.zeros(shape, np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
