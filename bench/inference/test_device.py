"""Everything on one device, all images in one batch: CPU with all its threads, CUDA, MPS.

Network and images lie on the device before the timing starts, and a call is over when the device is
done. TF32 is off, so that float32 means float32 everywhere. Another device is other hardware: its
ratio is no parallel speedup, and it is nobody's serial base.
"""

from __future__ import annotations

import copy

import pytest
from torch import Tensor, nn

from bench.devices import absence, tf32
from bench.inference.forward import in_batches


class OnDevice:
    """Infers images that lie on the device, all in one batch."""

    def __init__(self, model: nn.Module, device: str) -> None:
        self.device = device
        self._model = copy.deepcopy(model).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, ...], both on the device."""
        return in_batches(self._model, images, batch_size=len(images))


@pytest.mark.speedup(axis="device", serial=False)
def test_device(speedup, model, images, logits, rounding, device):
    reason = absence(device)
    if reason is not None:
        pytest.skip(reason)
    with tf32(False):
        infer = OnDevice(model, device)
        there = images.to(device)
        speedup(infer, there, expected=logits, work=len(images), tolerance=rounding)
