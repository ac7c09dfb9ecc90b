"""`torch.nn.functional.adaptive_avg_pool2d` and its gradient; no arithmetic.

Output p of P is the mean from floor(p H / P) to ceil((p + 1) H / P): neighbours overlap unless P
divides H (aten/src/ATen/native/AdaptivePooling.h: `start_index`, `end_index`).
"""

from __future__ import annotations

from kernels.arrays import Array, float_array, integer, is_channels_last
from kernels.avg_pool2d.operator import AveragingAlgorithm, Call, run_backward, run_forward
from kernels.operator import Operator
from kernels.pooling import adaptive, gradient

Size = int | tuple[int | None, int | None] | list[int | None]


class AdaptiveAvgPool2d(Operator[AveragingAlgorithm]):
    """The means of windows that share the input out among the outputs."""

    def forward(self, input: Array, output_size: Size) -> Array:  # noqa: A002 - torch's name
        """[N, C, H, W] or [C, H, W] -> [N, C, P, Q] or [C, P, Q].

        `output_size` is P, Q, or one number for both, with None for H or W. An output of size 0 is
        allowed, as in torch, and so is an image without pixels whose mean is asked for: it is NaN.
        Raises TypeError and ValueError.
        """
        return run_forward(self._algorithm, adaptive_call(input, output_size), self._threads)

    def backward(
        self,
        grad_output: Array,
        input: Array,  # noqa: A002 - torch's name
        output_size: Size,
    ) -> Array:
        """The gradient of the input, from that of the output. Raises as `forward` does.

        As in torch, `grad_output` may be empty in its batch alone.
        """
        call = adaptive_call(input, output_size)
        given = gradient(grad_output, call.input, call.shape, call.batched)
        check_outputs(call.shape)
        return run_backward(self._algorithm, call, given, self._threads)


def check_outputs(shape: tuple[int, ...]) -> None:
    """Raise ValueError for an output of which torch takes no gradient, by its [..., C, P, Q]."""
    if 0 in shape[-3:]:
        raise ValueError(f"grad_output may be empty in its batch alone, got shape {shape}")


def adaptive_call(given: Array, output_size: Size) -> Call:
    """The arguments, checked, in normal form."""
    given = float_array("input", given, (3, 4))
    batched = given.ndim == 4
    images = given if batched else given[None]
    n, channels, height, width = images.shape
    outputs = _sizes(output_size, height, width)
    if 0 in (height, width) and outputs != (1, 1):
        raise ValueError(f"input must have a height and a width, got shape {given.shape}")
    return Call(
        input=images,
        grid=adaptive((height, width), outputs),
        shape=(n, channels, *outputs),
        channels_last=batched and is_channels_last(images),
        batched=batched,
        arguments=(outputs,),
    )


def _sizes(output_size: object, height: int, width: int) -> tuple[int, int]:
    if not isinstance(output_size, (tuple, list)):
        both = integer("output_size", output_size, 0)
        return both, both
    if len(output_size) != 2:
        raise ValueError(
            f"output_size must be a whole number or a pair of them, got {output_size!r}"
        )
    p, q = output_size
    return (
        height if p is None else integer("output_size", p, 0),
        width if q is None else integer("output_size", q, 0),
    )
