"""One case on a GPU, as a call that lasts long enough to be timed, and what proves it.

A single operator on a GPU is done in microseconds, less than Python takes to ask for it. So a call
is many launches, captured once as a CUDA graph and replayed: what is timed is the device. What one
eager call takes beside that, until its result is there, is told apart (`eager_seconds`).

    warm    every launch has the same arguments, which stay in the L2 cache if they fit
    cold    launches take turns with copies of the arguments, together four times the L2 cache
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernels
from bench.devices import absence, tf32
from bench.kernels.cases import CASES, MOST_OF_ONE_THREAD, Case
from bench.kernels.device_design import design_of, recorded
from bench.kernels.device_peaks import device_peak
from bench.kernels.problems import FACTOR, UNIT, problem_of, torch_call

Call = Callable[[], Tensor]

L2_UNKNOWN = 1 << 26
"""Bytes that are taken for the L2 cache where torch does not tell."""
MOST_COPIES = 64
CALL_SECONDS, MOST_LAUNCHES = 4e-3, 1024
"""How long a call is meant to last, and how many launches it may be."""


@dataclass(frozen=True)
class Mode:
    """In what numbers products are formed; sums are float32."""

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


class Repeated:
    """`launches` calls on the device, one after another; returns the last one's result."""

    def __init__(
        self,
        calls: list[Call],
        launches: int,
        device: str,
        design: Mapping[str, float | int] | None = None,
    ) -> None:
        self.device = device
        self.design = design
        self.repeats = launches
        self._turns = list(itertools.islice(itertools.cycle(calls), launches))
        self._graph = self._captured() if device == "cuda" else None

    def _captured(self) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._run()
        return graph

    def _run(self) -> Tensor:
        for call in self._turns[:-1]:
            call()
        return self._turns[-1]()

    def __call__(self) -> Tensor:
        """Start them all; the device may still be at it."""
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._result


@contextmanager
def on_device(case_name: str, arm_name: str, device: str, cache: str) -> Iterator[Repeated]:
    """The case on the device. Skips the test, saying why, where that is not to be had."""
    case, arm = CASES[case_name], ARMS[arm_name]
    reason = absence(device) or left_out(case, arm)
    if reason is not None:
        pytest.skip(reason)
    copies = copies_of(case, cache, device)
    with torch.inference_mode(), tf32(arm.mode is TF32):
        try:
            operator, recording = recorded(case_name, arm.implementation)
            calls = [_call(case_name, arm, device, operator) for _ in range(copies)]
            launches = _launches(calls[0], device, copies)
            wait = getattr(torch, device).synchronize
            design = design_of(case_name, recording, calls[0], wait)
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


def copies_of(case: Case, cache: str, device: str) -> int:
    """How many sets of arguments launches take turns with."""
    if cache == "warm":
        return 1
    return max(2, min(MOST_COPIES, math.ceil(4 * _l2(device) / case.bytes)))


def stated(case_name: str, arm_name: str, device: str) -> dict[str, Any]:
    """What an arm tells `speedup`: its proof, its work, and what the device gives."""
    case, mode, problem = CASES[case_name], ARMS[arm_name].mode, problem_of(case_name)
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
        "peak": device_peak(case.unit, device, mode.name),
    }


def eager_seconds(call: Callable[[], Any], device: str, times: int = 20) -> float:
    """What one call takes until its result is there, the median of some."""
    wait = getattr(torch, device).synchronize
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        wait()
        spent.append(time.perf_counter() - start)
    return sorted(spent)[times // 2]


def _launches(call: Call, device: str, copies: int) -> int:
    """So many that a call lasts `CALL_SECONDS`, every copy being taken equally often."""
    call()
    one = eager_seconds(call, device, times=5)
    wanted = min(MOST_LAUNCHES, max(1, round(CALL_SECONDS / one)))
    return max(copies, wanted // copies * copies)


def _l2(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).L2_cache_size)
    return L2_UNKNOWN


def _call(case_name: str, arm: DeviceArm, device: str, operator: Any) -> Call:
    """`operator`: the arm's; None for one that the registry makes."""
    case, problem = CASES[case_name], problem_of(case_name)

    def there(array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            return array
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        if tensor.is_floating_point() and arm.implementation is None:
            tensor = tensor.to(arm.mode.dtype)
        if arm.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    arguments = {name: there(value) for name, value in problem.arguments.items()}
    grad = there(problem.grad_output)
    if arm.implementation is None:
        tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
        call = torch_call(case, tensors, grad)
        return call if arm.mode.dtype == torch.float32 else lambda: call().float()
    operator = operator or kernels.get(case.operator, arm.implementation)
    if case.gradient is None:
        return lambda: operator.forward(**arguments)
    place = ("input", "weight").index(case.gradient)
    needs = (place == 0, place == 1, False)
    return lambda: operator.backward(grad, **arguments, needs=needs)[place]
