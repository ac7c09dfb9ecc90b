"""batch_norm by NumPy's reductions over [N, C, L], in the input's own memory.

Sums run in float64. The mean is subtracted in two parts, the one that the input's dtype holds and
what is left of it, so that no float64 copy of the input is made: the variance is taken of the
differences in the room for the result.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array
from kernels.batch_norm.operator import BatchNormAlgorithm, Call, Gradients, Saved
from kernels.batch_norm.statistics import bias_of, keep, planes, weight_of

AXES = (0, 2)


class Reductions(BatchNormAlgorithm):
    """batch_norm by sums and ufuncs."""

    def forward(
        self,
        call: Call,
        output: Array,
        saved: Saved | None,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill `output` and `saved`; update the running statistics in training."""
        y = planes(output)
        with np.errstate(all="ignore"):
            mean, var, rest = _centred(call, y)
            if call.training:
                keep(call, np.stack([mean, var]), saved)
            factor = weight_of(call) / np.sqrt(var + call.eps)
            y *= _over(factor, y)
            y += _over(bias_of(call) - rest * factor if call.training else bias_of(call), y)

    def backward(
        self,
        call: Call,
        saved: Saved | None,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients."""
        gy = planes(grad_output)
        gx = np.empty_like(planes(call.input)) if grads.input is None else planes(grads.input)
        with np.errstate(all="ignore"):
            if saved is None:
                _, var, rest = _centred(call, gx)
                r = 1 / np.sqrt(var + call.eps)
            else:
                np.subtract(planes(call.input), _over(saved.mean, gx), out=gx)
                r, rest = saved.invstd.astype(np.float64), np.zeros(gx.shape[1])
            gb = gy.sum(axis=AXES, dtype=np.float64)
            gw = np.einsum("ncl,ncl->c", gy, gx, dtype=np.float64) * r
            if call.training:
                gw -= rest * gb * r
            if grads.weight is not None:
                grads.weight[...] = gw
            if grads.bias is not None:
                grads.bias[...] = gb
            if grads.input is None:
                return
            factor = weight_of(call) * r
            if not call.training:  # the running statistics do not depend on the input
                np.multiply(gy, _over(factor, gx), out=gx)
                return
            count = gx.size // gb.size
            slope = -r * gw / count
            gx *= _over(slope, gx)
            gx -= _over(gb / count + rest * slope, gx)
            gx += gy
            gx *= _over(factor, gx)


def _centred(call: Call, room: Array) -> tuple[Array, Array, Array]:
    """(mean, variance, what is left of the mean), [C]; `room` becomes input minus mean but that."""
    x = planes(call.input)
    if not call.training:
        assert call.running_mean is not None
        assert call.running_var is not None
        mean = call.running_mean.astype(np.float64)
        np.subtract(x, _over(mean, x), out=room)
        return mean, call.running_var.astype(np.float64), np.zeros_like(mean)
    count = x.size // x.shape[1]
    mean = x.mean(axis=AXES, dtype=np.float64)
    rest = mean - mean.astype(x.dtype)
    np.subtract(x, _over(mean, x), out=room)
    var = np.einsum("ncl,ncl->c", room, room, dtype=np.float64) / count - rest * rest
    return mean, var, rest


def _over(channels: Array, like: Array) -> Array:
    """[C] -> [C, 1] in the dtype of `like`."""
    return channels.astype(like.dtype)[:, None]
