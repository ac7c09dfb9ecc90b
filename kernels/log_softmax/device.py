"""log_softmax on a GPU, by softmax's sources."""

from __future__ import annotations

from kernels.softmax.device import DeviceSoftmax


class DeviceLogSoftmax(DeviceSoftmax):
    """Along one dimension, input - log(sum of exp(input)); contiguous float32 tensors."""

    _log = 1
