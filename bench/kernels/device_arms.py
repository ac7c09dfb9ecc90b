"""One case on a GPU, as a call that lasts long enough to be timed, and what proves it.

A call is many launches (`repeated`), and its time and work are told of one.

    warm    every launch has the same arguments, which stay in the L2 cache if they fit
    cold    launches take turns with copies of the arguments and results, together four times the
            L2 cache; what is too small for that is left out
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernels
from bench.devices import absence, tf32, tried_algorithms, within_memory
from bench.kernels.cases import CASES, MOST_OF_ONE_THREAD, Case
from bench.kernels.device_design import design_of, recorded
from bench.kernels.device_peaks import device_peak
from bench.kernels.problems import FACTOR, UNIT, problem_of, torch_call
from bench.kernels.repeated import MOST_LAUNCHES, Call, Repeated, launches_of

L2_UNKNOWN = 1 << 26
"""Bytes that are taken for the L2 cache where torch does not tell."""
COLD, LEAST_COLD = 4, 2
"""How many times the L2 cache cold arguments and results are, and have to be."""


@dataclass(frozen=True)
class Mode:
    """In what numbers products are formed.

    torch gets operands of its mode's dtype and may add parts of a sum in it; ours get float32, and
    what they round to bfloat16 they add in float32.
    """

    name: str
    unit: float
    """The unit roundoff of an operand."""
    dtype: torch.dtype = torch.float32

    def factor(self) -> float:
        """Of u S, which a right result may be off; each of two operands is rounded before."""
        return FACTOR * UNIT if self.name == "float32" else FACTOR * UNIT + 2 * self.unit


FLOAT32 = Mode("float32", UNIT)
TF32 = Mode("TF32", 2.0**-10)
"""Of 11 bits; a tensor core may cut an operand off instead of rounding it."""
BFLOAT16 = Mode("bfloat16", 2.0**-8, torch.bfloat16)
"""An operand of bfloat16 is off by 2^-9; so is the result, which torch rounds to it too."""


@dataclass(frozen=True)
class DeviceArm:
    """Who computes: an implementation of `kernels`, or torch where that is None."""

    implementation: str | None
    mode: Mode = FLOAT32
    channels_last: bool = False


ARMS: Mapping[str, DeviceArm] = {
    "cuda_sequential": DeviceArm("cuda_sequential"),
    "cuda": DeviceArm("cuda"),
    "triton": DeviceArm("triton"),
    "triton_tf32": DeviceArm("triton_tf32", TF32),
    "triton_bf16": DeviceArm("triton_bf16", BFLOAT16),
    "metal_sequential": DeviceArm("metal_sequential"),
    "metal": DeviceArm("metal"),
    "torch": DeviceArm(None),
    "torch_tf32": DeviceArm(None, TF32),
    "torch_bf16": DeviceArm(None, BFLOAT16),
    "torch_channels_last": DeviceArm(None, channels_last=True),
    "torch_tf32_channels_last": DeviceArm(None, TF32, channels_last=True),
    "torch_bf16_channels_last": DeviceArm(None, BFLOAT16, channels_last=True),
}
"""By the name of the test, in legend order."""


@contextmanager
def on_device(case_name: str, arm_name: str, device: str, cache: str) -> Iterator[Repeated]:
    """The case on the device. Skips the test, saying why, where that is not to be had."""
    case, arm = CASES[case_name], ARMS[arm_name]
    reason = absence(device) or left_out(case, arm)
    if reason is None and cache == "cold":
        reason = never_cold(case, arm, device)
    if reason is not None:
        pytest.skip(reason)
    with torch.inference_mode(), tf32(arm.mode is TF32), tried_algorithms(), within_memory():
        try:
            copies = range(copies_of(case, cache, device))
            calls = [_call(case_name, arm, device) for _ in copies]
            launches = launches_of(calls, device)
            # the operator that is timed notes nothing
            operator, recording = recorded(case_name, arm.implementation)
            once = _call(case_name, arm, device, operator)
            design = design_of(case_name, recording, once, device)
            if not of_memory(case, cache, device):
                design.pop("bytes")
            yield Repeated(calls, launches, device, design)
        except NotImplementedError as error:  # an operator's refusal, which says why
            pytest.skip(str(error))


def left_out(case: Case, arm: DeviceArm) -> str | None:
    """Why an arm is not to be had or not worth its time, or None."""
    if arm.implementation is None:
        products = case.unit == "FLOP"
        if arm.mode is not FLOAT32 and not products:
            return f"{case.operator} forms no products that {arm.mode.name} would change"
        if arm.channels_last and case.operator != "conv2d":
            return "channels-last memory is for convolutions here"
        return None
    if arm.implementation not in kernels.device_names(case.operator):
        return f"{case.operator} has no implementation {arm.implementation!r}"
    if arm.implementation.endswith("_sequential") and case.work > MOST_OF_ONE_THREAD:
        told = f"{MOST_OF_ONE_THREAD / 1e6:g} million {case.unit}"
        return f"one thread of a GPU takes seconds for more than {told}"
    return kernels.get(case.operator, arm.implementation).unavailable_reason()


def never_cold(case: Case, arm: DeviceArm, device: str) -> str | None:
    """Why an arm cannot be had with cold caches or is not worth its time so, or None."""
    if arm.implementation is not None and arm.implementation.endswith("_sequential"):
        return "one thread of a GPU is timed with warm caches alone"
    if MOST_LAUNCHES * case.bytes < LEAST_COLD * _l2(device):
        return f"{MOST_LAUNCHES} copies of its arguments do not fill the L2 cache twice"
    return None


def copies_of(case: Case, cache: str, device: str) -> int:
    """How many sets of arguments and results launches take turns with."""
    if cache == "warm":
        return 1
    return max(2, min(MOST_LAUNCHES, math.ceil(COLD * _l2(device) / case.bytes)))


def of_memory(case: Case, cache: str, device: str) -> bool:
    """Whether a launch's bytes come from the device's memory, and not from its L2 cache."""
    return cache == "cold" or case.bytes >= LEAST_COLD * _l2(device)


def stated(case_name: str, arm_name: str, device: str, cache: str) -> dict[str, Any]:
    """What an arm tells `speedup`: its proof, its work, what the device gives, what it costs.

    What is bound by memory has no peak where the cache gives its arguments: that is memory's.
    """
    case, arm, problem = CASES[case_name], ARMS[arm_name], problem_of(case_name)
    mode, cached = arm.mode, case.unit == "B" and not of_memory(case, cache, device)
    expected = torch.from_numpy(problem.expected)
    rounding = problem.torchs_rounding(problem.expected)
    allowed = torch.from_numpy(np.asarray(rounding * np.float32(mode.factor() / (FACTOR * UNIT))))

    def bound(expected: Tensor) -> Tensor:
        return allowed

    bound.__doc__ = f"{mode.factor() / UNIT:.0f} u S"
    return {
        "expected": expected,
        "tolerance": bound,
        "work": case.work,
        "unit": case.unit,
        "peak": None if cached else device_peak(case.unit, device, mode.name),
    }


def _l2(device: str) -> int:
    if device == "cuda":
        current = torch.cuda.current_device()
        return int(torch.cuda.get_device_properties(current).L2_cache_size)
    return L2_UNKNOWN


def _call(case_name: str, arm: DeviceArm, device: str, operator: Any = None) -> Call:
    """`operator`: the arm's; None for the one that the registry makes."""
    case, problem = CASES[case_name], problem_of(case_name)

    def there(array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            return array
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device, copy=True)
        if tensor.is_floating_point() and arm.implementation is None:
            tensor = tensor.to(arm.mode.dtype)
        if arm.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    arguments = {name: there(value) for name, value in problem.arguments.items()}
    grad = there(problem.grad_output)
    if arm.implementation is None:
        tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
        return torch_call(case, tensors, grad)
    operator = operator or kernels.get(case.operator, arm.implementation)
    if case.gradient is None:
        return lambda: operator.forward(**arguments)
    place = ("input", "weight").index(case.gradient)
    needs = (place == 0, place == 1, False)
    return lambda: operator.backward(grad, **arguments, needs=needs)[place]
