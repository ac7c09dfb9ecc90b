"""`torch.nn.functional.log_softmax`: softmax's arguments, shapes and memory."""

from __future__ import annotations

from kernels.softmax.operator import Softmax


class LogSoftmax(Softmax):
    """Along one dimension, input - log(sum of exp(input))."""
