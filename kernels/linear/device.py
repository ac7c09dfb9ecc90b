"""linear on a GPU, by linear.cu or linear.metal: three products, cut into squares by shape."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kernels.arrays import flags
from kernels.gpu.operator import DeviceOperator, ceil_div, zeros
from kernels.linear.operator import checked

if TYPE_CHECKING:
    from torch import Tensor

THREADS = 256
ENOUGH = 120
"""Blocks that keep a large GPU busy: an H200 has 132 multiprocessors."""
SIDES = (128, 64, 32)
"""Of the kernels' squares; the larger, the more products a number from memory serves."""
LEAST_PART = 128
"""Of a sum: below, adding up the parts costs more than they save."""
FEW_ROWS, FEW_COLUMNS, WARPS = 8, 64, 4
"""For the kernel that reads the weight once: rows at most, columns at least, warps of a block."""
COLUMNS, LEAST_ROWS = 32, 64
"""Of a block that sums columns: its columns, and rows at least."""


class Form(NamedTuple):
    """What the shapes of a call say."""

    rows: int
    inputs: int
    outputs: int
    output: tuple[int, ...]
    """The result's shape."""


class Cut(NamedTuple):
    """How a product is cut into blocks."""

    side: int
    blocks: int
    part: int
    """Numbers of the sum in a block, a multiple of 32; there are `parts` such."""
    parts: int


class DeviceLinear(DeviceOperator):
    """input times weight transposed, plus bias; contiguous float32 tensors."""

    source = "linear/linear"

    def forward(
        self,
        input: Tensor,  # noqa: A002 - torch's name
        weight: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """[..., I] -> [..., O] for a weight [O, I] and a bias [O]; [...] for a weight [I].

        Raises TypeError, ValueError, DeviceError.
        """
        x, w, b, form = self._call(input, weight, bias)
        y: Tensor = x.new_empty(form.output)
        if x.numel() and w.numel():
            self._product(x, w, b, y, form.rows, form.outputs, form.inputs, (1, 1))
        elif b is None:
            y.zero_()
        else:
            y.copy_(b)
        return y

    def backward(
        self,
        grad_output: Tensor,
        input: Tensor,  # noqa: A002 - torch's name
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of input, weight and bias, from that of the output.

        None for those that `needs` leaves out, and for a bias that is not there. Raises as
        `forward` does.
        """
        x, w, b, form = self._call(input, weight, bias)
        gy = self._tensor("grad_output", grad_output, like=x)
        if gy.shape != form.output:
            raise ValueError(f"grad_output must have shape {form.output}, got {tuple(gy.shape)}")
        needs = flags("needs", needs, "input", "weight", "bias")
        gx = x.new_empty(x.shape) if needs[0] else None
        gw = x.new_empty(w.shape) if needs[1] else None
        gb = x.new_empty(b.shape) if needs[2] and b is not None else None
        rows, inputs, outputs, _ = form
        if not (x.numel() and w.numel()):
            for grad in (gx, gw):
                if grad is not None:
                    grad.zero_()
            if gb is not None:
                gb.copy_(gy.reshape(rows, outputs).sum(0).reshape(gb.shape))
            return gx, gw, gb
        if gx is not None:
            self._product(gy, w, None, gx, rows, inputs, outputs, (1, 0))
        if gw is not None:
            self._product(gy, x, None, gw, outputs, inputs, rows, (0, 0))
        if gb is not None:
            self._column_sums(gy, gb, rows, outputs)
        return gx, gw, gb

    def _call(
        self, given: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Form]:
        x = self._tensor("input", given)
        w = self._tensor("weight", weight, like=x)
        b = None if bias is None else self._tensor("bias", bias, like=x)
        return x, w, b, _form(tuple(x.shape), tuple(w.shape), None if b is None else tuple(b.shape))

    def _product(
        self,
        a: Tensor,
        b: Tensor,
        bias: Tensor | None,
        y: Tensor,
        m: int,
        n: int,
        k: int,
        along_k: tuple[int, int],
    ) -> None:
        """y [m, n] from a [m, k] or [k, m] and b [n, k] or [k, n]."""
        given = y if bias is None else bias
        has_bias = int(bias is not None)
        if self._sequential:
            self._launch("linear_product", 1, 1, a, b, given, y, m, n, k, *along_k, has_bias, k)
            return
        if along_k == (1, 1) and m <= FEW_ROWS and (n >= FEW_COLUMNS or k <= LEAST_PART):
            blocks = ceil_div(n, 2 * WARPS)
            self._launch("linear_few_rows", blocks, 32 * WARPS, a, b, given, y, m, n, k, has_bias)
            return
        side, blocks, part, parts = _cut(m, n, k)
        alone = parts == 1
        made = y if alone else y.new_empty((parts, m, n))
        self._launch(
            f"linear_product_{side}", (blocks, parts, 1), THREADS,
            a, b, given, made, m, n, k, *along_k, has_bias if alone else 0, part,
        )  # fmt: skip
        if not alone:
            self._sum_parts(made, given, y, parts, m, n, has_bias)

    def _column_sums(self, gy: Tensor, gb: Tensor, rows: int, columns: int) -> None:
        blocks = ceil_div(columns, COLUMNS)
        parts = max(1, min(ceil_div(2 * ENOUGH, blocks), rows // LEAST_ROWS))
        part = rows if self._sequential else ceil_div(rows, parts)
        parts = ceil_div(rows, part)
        made = gb if parts == 1 else gb.new_empty((parts, columns))
        self._launch(
            "linear_column_sums", (blocks, parts, 1), THREADS, gy, made, rows, columns, part
        )
        if parts > 1:
            self._sum_parts(made, gb, gb, parts, 1, columns, 0)

    def _sum_parts(
        self, made: Tensor, bias: Tensor, y: Tensor, parts: int, m: int, n: int, has_bias: int
    ) -> None:
        blocks = ceil_div(m * n, THREADS)
        self._launch("linear_sum_parts", blocks, THREADS, made, bias, y, parts, m, n, has_bias)


@functools.lru_cache(maxsize=512)
def _form(given: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] | None) -> Form:
    """Raises what the operator on arrays raises for these shapes."""
    checked(zeros(given), zeros(weight), None if bias is None else zeros(bias))
    rows, outputs = math.prod(given[:-1]), math.prod(weight[:-1])
    return Form(rows, given[-1], outputs, given[:-1] + weight[:-1])


@functools.lru_cache(maxsize=512)
def _cut(m: int, n: int, k: int) -> Cut:
    """The largest squares that make blocks enough; of the smallest, parts of the sum besides."""
    for side in SIDES:
        blocks = ceil_div(m, side) * ceil_div(n, side)
        if blocks >= ENOUGH:
            return Cut(side, blocks, k, 1)
    parts = max(1, min(ceil_div(2 * ENOUGH, blocks), k // LEAST_PART))
    part = ceil_div(ceil_div(k, parts), 32) * 32
    return Cut(side, blocks, part, ceil_div(k, part))
