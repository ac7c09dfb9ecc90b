"""How far a right result may be from the reference where its roundings legitimately differ.

Moving a call to another thread, process or rank changes no bit, so those strategies get no
tolerance. Another batch size, layout, compiler or device sums in another order, and so may an
operator that is split over another number of threads. For one operator
the a-priori bound is 8 u S (S: the operator on absolute values, u: the unit roundoff); through a
whole network S grows by a factor per layer and ends up allowing anything. So the bound is measured
on the network itself, with a float64 run of the same weights and images as the truth:

    e = max |logits - logits64|, at least u max |logits64|
    |actual - logits| <= 16 e

16 = 2 x 8: both sides may err, and the coarsest float32 algorithm in use, Winograd F(4,3), errs by
64 u S where a direct one errs by 8 u S. On logits that spread by 1 the bound comes to 2e-4 for
resnet18, a thousandth of what bfloat16 errs by and far below what another image's would differ by.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches

FACTOR = 16
REDUCED_PRECISION = math.sqrt(2) / 2
"""Root mean square error over the logits' spread: half of what another image's logits give."""


def rounding_bound(model: nn.Module, images: Tensor, logits: Tensor) -> Callable[[Tensor], float]:
    """The largest |actual - logits| of a float32 result, from a float64 run of the same network."""
    exact = in_batches(copy.deepcopy(model).double(), images.double(), batch_size=len(images))
    unit = torch.finfo(logits.dtype).eps / 2
    error = max(float((logits - exact).abs().max()), unit * float(exact.abs().max()))

    def bound(expected: Tensor) -> float:
        return FACTOR * error

    bound.__doc__ = f"{FACTOR * error:.1e} = {FACTOR} x the float32 error"
    return bound


def reduced_precision(logits: Tensor) -> Callable[[Tensor], Mapping[str, float | str]]:
    """A check for results of fewer bits: shape, dtype, error; it tells the share of equal top-1.

    The root mean square error has to stay below half of what the logits of another image would
    give, which tells a coarse result from a wrong one. Random weights leave small margins: the
    share of equal top-1 is lower with them than with trained ones, and it is told, not required.
    """
    # One image alone differs from no other; its logits then differ from each other.
    others = 0 if len(logits) > 1 else 1
    spread = float(logits.std(others, correction=0).square().mean().sqrt())

    def check(actual: Tensor) -> Mapping[str, float | str]:
        assert actual.shape == logits.shape, f"wanted {logits.shape}, got {actual.shape}"
        assert actual.dtype == logits.dtype, f"wanted {logits.dtype}, got {actual.dtype}"
        difference = actual - logits
        relative = float(difference.square().mean().sqrt()) / spread
        assert relative <= REDUCED_PRECISION, (
            f"root mean square error {relative:.3g} of the logits' spread, "
            f"allowed {REDUCED_PRECISION:.3g}"
        )
        return {
            "top1": float((actual.argmax(1) == logits.argmax(1)).double().mean()),
            "rms_error": relative,
            "max_abs_error": float(difference.abs().max()),
            "tolerance": f"rms {REDUCED_PRECISION:.2f} of spread",
        }

    return check
