"""log_softmax by Triton: softmax's kernel, which does both."""

from __future__ import annotations

from kernels.softmax.triton import TritonSoftmax


class TritonLogSoftmax(TritonSoftmax):
    """Along one dimension, input - log(sum of exp(input)), of a contiguous float32 tensor."""

    log = True
