"""NumPy alone: every filter's window as a row of a matrix, and one matrix product an image.

The windows are a strided view of the image; they are copied only where a matrix product could not
read them in place (a 1 x 1 kernel of stride 1 is read in place). Columns are ordered as the memory
is, (C, R, S) for contiguous and (R, S, C) for channels-last, so that products are written where the
result belongs. The products run on as many threads as NumPy's BLAS takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kernels.arrays import Array
from kernels.conv2d.operator import Call, Conv2dAlgorithm, Gradients


class Windows(Conv2dAlgorithm):
    """conv2d as matrix products over sliding windows."""

    def forward(self, call: Call, output: Array, threads: int | None) -> None:  # noqa: ARG002
        """Fill `output` [N, K, P, Q]."""
        weight = _weight_matrix(call)
        with np.errstate(all="ignore"):  # NaN and infinity travel without a warning
            for columns, result in zip(_columns(call), _images(call, output), strict=True):
                if call.channels_last:
                    np.matmul(columns, weight.swapaxes(1, 2), out=result)
                else:
                    np.matmul(weight, columns, out=result)
            if call.bias is not None:
                output += call.bias[:, None, None]

    def backward(
        self,
        call: Call,
        grad_output: Array,
        grads: Gradients,
        threads: int | None,  # noqa: ARG002
    ) -> None:
        """Fill the gradients, from the output's [N, K, P, Q]."""
        with np.errstate(all="ignore"):
            if grads.input is not None:
                _grad_input(call, grad_output, grads.input)
            if grads.weight is not None:
                _grad_weight(call, grad_output, grads.weight)
            if grads.bias is not None:
                grad_output.sum((0, 2, 3), out=grads.bias)


def _grad_input(call: Call, grad_output: Array, grad_input: Array) -> None:
    """Each window's gradient is a product; overlapping windows are added up, tap by tap."""
    weight = _weight_matrix(call)
    rows, columns = call.weight.shape[2:]
    p, q = call.shape[2:]
    padded = _padded_room(call) if _is_padded(call) else None
    for grad, result in zip(_images(call, grad_output), grad_input, strict=True):
        room = result if padded is None else padded
        room[...] = 0
        if call.channels_last:
            products = (grad @ weight).reshape(call.groups, p, q, rows, columns, -1)
            taps = products.transpose(3, 4, 0, 5, 1, 2)
        else:
            products = weight.swapaxes(1, 2) @ grad
            taps = products.reshape(call.groups, -1, rows, columns, p, q).transpose(
                2, 3, 0, 1, 4, 5
            )
        (windows,) = _windows(call, room[None], writeable=True)
        sums = _grouped(call, windows)
        for r in range(rows):
            for s in range(columns):
                np.add(sums[..., r, s], taps[r, s], out=sums[..., r, s])
        if padded is not None:
            result[...] = _inside(call, room)


def _grad_weight(call: Call, grad_output: Array, grad_weight: Array) -> None:
    memory = grad_weight.transpose(0, 2, 3, 1) if call.channels_last else grad_weight
    total = memory.reshape(_weight_matrix(call).shape)
    total[...] = 0
    for columns, grad in zip(_columns(call), _images(call, grad_output), strict=True):
        if call.channels_last:
            total += grad.swapaxes(1, 2) @ columns
        else:
            total += grad @ columns.swapaxes(1, 2)


def _columns(call: Call) -> Iterator[Array]:
    """Each image's windows: [G, C / G * R * S, P * Q], channels-last [G, P * Q, R * S * C / G]."""
    if not _is_padded(call):
        for windows in _windows(call, call.input):
            yield _matrix(call, windows)
        return
    room = _padded_room(call)
    (windows,) = _windows(call, room[None])
    for image in call.input:
        _inside(call, room)[...] = image
        yield _matrix(call, windows)


def _windows(call: Call, images: Array, *, writeable: bool = False) -> Array:
    """A view of padded images [N, C, H, W]: [N, C, P, Q, R, S]."""
    reach = [
        (size - 1) * step + 1
        for size, step in zip(call.weight.shape[2:], call.dilation, strict=True)
    ]
    windows = sliding_window_view(images, reach, (2, 3), writeable=writeable)
    (down, right), (below, beside) = call.stride, call.dilation
    return windows[:, :, ::down, ::right, ::below, ::beside]


def _matrix(call: Call, windows: Array) -> Array:
    """One image's windows as a matrix of each group; a view where the memory allows it."""
    grouped = _grouped(call, windows)
    groups, depth, p, q, rows, columns = grouped.shape
    if call.channels_last:
        return grouped.transpose(0, 2, 3, 4, 5, 1).reshape(groups, p * q, -1)
    return grouped.transpose(0, 1, 4, 5, 2, 3).reshape(groups, depth * rows * columns, p * q)


def _grouped(call: Call, windows: Array) -> Array:
    """[C, P, Q, R, S] -> [G, C / G, P, Q, R, S], a view."""
    return windows.reshape(call.groups, -1, *windows.shape[1:])


def _weight_matrix(call: Call) -> Array:
    """[G, K / G, C / G * R * S], channels-last [G, K / G, R * S * C / G]."""
    weight = call.weight.transpose(0, 2, 3, 1) if call.channels_last else call.weight
    return weight.reshape(call.groups, len(weight) // call.groups, -1)


def _images(call: Call, results: Array) -> Array:
    """[N, K, P, Q] -> [N, G, K / G, P * Q], channels-last [N, G, P * Q, K / G].

    A view of room that was made for the results, and of every array that lies as those do.
    """
    n, filters, p, q = results.shape
    grouped = (n, call.groups, filters // call.groups, p * q)
    if not call.channels_last:
        return results.reshape(grouped)
    rows = results.transpose(0, 2, 3, 1).reshape(n, p * q, call.groups, -1)
    return rows.transpose(0, 2, 1, 3)


def _is_padded(call: Call) -> bool:
    return call.before + call.after != (0, 0, 0, 0)


def _padded_room(call: Call) -> Array:
    """One image of zeros, padding included."""
    channels, *size = call.input.shape[1:]
    height, width = (sum(sizes) for sizes in zip(call.before, size, call.after, strict=True))
    if call.channels_last:
        return np.zeros((height, width, channels), call.input.dtype).transpose(2, 0, 1)
    return np.zeros((channels, height, width), call.input.dtype)


def _inside(call: Call, room: Array) -> Array:
    """The part of a padded image that is the image."""
    (above, left), (height, width) = call.before, call.input.shape[2:]
    return room[:, above : above + height, left : left + width]
