"""`torch.nn.functional.max_pool2d` and its gradient: arguments, shapes, memory; no arithmetic."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from kernels.arrays import Array, empty, flag, is_channels_last, unlocked
from kernels.operator import Algorithm, Operator
from kernels.pooling import Grid, Pair, Window, gradient, remembered, whole_images


class Call(NamedTuple):
    """One pooling in normal form."""

    input: Array
    """[N, C, H, W], any strides."""
    window: Window
    grid: Grid
    shape: tuple[int, int, int, int]
    """The output's: [N, C, P, Q]."""
    channels_last: bool
    """Whether the input lies in channels-last memory, and so all results."""
    batched: bool


class MaxPool2dAlgorithm(Algorithm):
    """A way of computing a call; the arrays to fill hold anything before.

    The greatest of a window is its first one; NaN is greater than all, and the last NaN counts. A
    window that dilation has left empty is -inf, its index where its first number would be.
    """

    @abstractmethod
    def forward(
        self, call: Call, output: Array, indices: Array | None, threads: int | None
    ) -> None:
        """Fill `output` [N, C, P, Q], and `indices` where wanted: int64, i * W + j."""

    @abstractmethod
    def backward(
        self, call: Call, grad_output: Array, indices: Array, grad_input: Array, threads: int | None
    ) -> int:
        """Fill `grad_input` [N, C, H, W]; returns how many `indices` point into their windows.

        Others may hold any number; what is filled in then is of no interest.
        """


class MaxPool2d(Operator[MaxPool2dAlgorithm]):
    """The greatest of each window."""

    @overload
    def forward(
        self,
        input: Array,
        kernel_size: Pair,
        stride: Pair | None = ...,
        padding: Pair = ...,
        dilation: Pair = ...,
        ceil_mode: bool = ...,
        return_indices: Literal[False] = ...,
    ) -> Array: ...

    @overload
    def forward(
        self,
        input: Array,
        kernel_size: Pair,
        stride: Pair | None = ...,
        padding: Pair = ...,
        dilation: Pair = ...,
        ceil_mode: bool = ...,
        *,
        return_indices: Literal[True],
    ) -> tuple[Array, Array]: ...

    def forward(
        self,
        input: Array,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Array | tuple[Array, Array]:
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q], and the indices where wanted.

        P = (H + 2 padding - dilation (R - 1) - 1) / stride + 1, rounded down, or up in ceil mode;
        Q alike. An index is i * W + j, int64. Raises TypeError and ValueError.
        """
        call = pooling_call(input, kernel_size, stride, padding, dilation, ceil_mode)
        output = empty(call.shape, call.input.dtype, channels_last=call.channels_last)
        indices = None
        if flag("return_indices", return_indices):
            indices = empty(call.shape, np.int64, channels_last=call.channels_last)
        if output.size:
            self._algorithm.forward(call, output, indices, self._threads)
        if indices is None:
            return output if call.batched else output[0]
        return (output, indices) if call.batched else (output[0], indices[0])

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        indices: Array | None = None,
    ) -> Array:
        """The gradient of the input, from that of the output.

        `indices`: those of `forward`, which spares another search; `return_indices` changes
        nothing. Raises as `forward` does, and ValueError for indices outside of their windows.
        """
        flag("return_indices", return_indices)
        call = pooling_call(input, kernel_size, stride, padding, dilation, ceil_mode)
        given = gradient(grad_output, call.input, call.shape, call.batched)
        places = self._search(call) if indices is None else _indices(indices, call)
        grad_input = empty(call.input.shape, call.input.dtype, channels_last=call.channels_last)
        if not call.grid.filled:
            grad_input.fill(0)
        elif given.size:
            found = self._algorithm.backward(call, given, places, grad_input, self._threads)
            if found != places.size:
                raise ValueError(
                    "indices must point into their windows, as those that forward returns do, "
                    f"got {places.size - found} that do not"
                )
        return grad_input if call.batched else grad_input[0]

    def _search(self, call: Call) -> Array:
        """The indices; the values go nowhere."""
        output = empty(call.shape, call.input.dtype, channels_last=call.channels_last)
        indices = empty(call.shape, np.int64, channels_last=call.channels_last)
        if output.size:
            self._algorithm.forward(call, output, indices, self._threads)
        return indices


def pooling_call(given: Array, *arguments: Any) -> Call:
    """Checked; `arguments`: those of max_pool2d behind the input, in its order."""
    images, batched = whole_images(given)
    window, grid = _grid(images.shape[2:], *arguments)
    return Call(
        input=images,
        window=window,
        grid=grid,
        shape=(*images.shape[:2], grid.rows.outputs, grid.columns.outputs),
        channels_last=batched and is_channels_last(images),
        batched=batched,
    )


@remembered
def _grid(
    sizes: tuple[int, int],
    kernel_size: Pair,
    stride: Pair | None,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[Window, Grid]:
    window = Window.checked(kernel_size, stride, padding, dilation, ceil_mode)
    return window, window.grid(sizes)


def _indices(indices: object, call: Call) -> Array:
    wanted = call.shape if call.batched else call.shape[1:]
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int64:
        came = indices.dtype if isinstance(indices, np.ndarray) else type(indices).__name__
        raise TypeError(f"indices must be an int64 array, got {came}")
    if indices.shape != wanted:
        raise ValueError(f"indices must have shape {wanted}, got {indices.shape}")
    aligned = unlocked(np.require(indices, requirements="A"))
    return aligned if call.batched else aligned[None]
