"""A torch network that trains on the operators of `kernels` on a GPU, gradients by hand too.

Its layers are replaced by layers of the same parameters whose forward and backward are an
operator's, once differentiable; torch's autograd only calls one after the other. A line a layer;
what is not listed stays torch's where it has nothing to compute, and is refused otherwise. What a
module's own `forward` calls beside its layers, `F.relu` for one, is not seen and stays torch's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import kernels
from models.errors import InputError


class _Operator(torch.autograd.Function):
    """`operator.forward(*tensors, **arguments)` with the operator's own gradients."""

    @staticmethod
    def forward(
        ctx: Any, operator: Any, arguments: dict[str, Any], *tensors: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.operator, ctx.arguments = operator, arguments
        result: Tensor = operator.forward(*tensors, **arguments)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        several = len(ctx.saved_tensors) == 3  # input, weight, bias, of which not all are wanted
        wanted = {"needs": tuple(ctx.needs_input_grad[2:])} if several else {}
        grads = ctx.operator.backward(
            grad_output.contiguous(), *ctx.saved_tensors, **ctx.arguments, **wanted
        )
        return (None, None, *(grads if several else (grads,)))


class ByHand(nn.Module):
    """A layer whose weight and bias, where it has them, are those of another one."""

    def __init__(self, operator: Any, arguments: dict[str, Any], like: nn.Module) -> None:
        super().__init__()
        self._operator, self._arguments = operator, arguments
        self._has_weights = hasattr(like, "weight")
        if self._has_weights:
            self.weight, self.bias = like.weight, like.bias

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The operator's result."""
        weights = (self.weight, self.bias) if self._has_weights else ()
        result: Tensor = _Operator.apply(self._operator, self._arguments, input, *weights)
        return result


def _of_pool(layer: nn.Module, *names: str) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", *names)}


def _of_conv2d(layer: nn.Conv2d) -> dict[str, Any]:
    if layer.padding_mode != "zeros":
        raise InputError(
            f"trainable: a Conv2d with padding_mode={layer.padding_mode!r} has no operator by "
            f"hand; allowed: 'zeros'"
        )
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(layer, name) for name in names}


LAYERS: dict[type[nn.Module], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    nn.Conv2d: ("conv2d", _of_conv2d),
    nn.Linear: ("linear", lambda _: {}),
    nn.ReLU: ("relu", lambda _: {}),
    nn.MaxPool2d: ("max_pool2d", lambda layer: _of_pool(layer, "dilation", "ceil_mode")),
    nn.AvgPool2d: (
        "avg_pool2d",
        lambda layer: _of_pool(layer, "ceil_mode", "count_include_pad", "divisor_override"),
    ),
}
"""Layer -> its operator, and the operator's arguments."""
AS_THEY_ARE = (nn.Sequential, nn.Flatten, nn.Identity, nn.Tanh)


def trainable(network: nn.Module, implementation: str) -> nn.Module:
    """A copy of a float32 network on the implementation's device, on its operators.

    `implementation`: one of `kernels.device_names("max_pool2d")`, which have gradients. Raises
    InputError for one that is not there or cannot run, and for a layer that no operator computes.
    """
    known = kernels.device_names("max_pool2d")
    if implementation not in known:
        raise InputError(
            f"trainable: no implementation {implementation!r}; allowed: {', '.join(known)}"
        )
    first = kernels.get("conv2d", implementation)
    reason = first.unavailable_reason()
    if reason is not None:
        raise InputError(f"trainable: {implementation} cannot run here: {reason}")
    return _replaced(copy.deepcopy(network).to(first.kind), implementation)


def cross_entropy(implementation: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean loss of logits [n, classes] and labels [n], int64, with its gradient."""
    operator = kernels.get("cross_entropy", implementation)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = _Operator.apply(operator, {"target": labels}, logits)
        return result

    return loss


def _replaced(module: nn.Module, implementation: str) -> nn.Module:
    found = LAYERS.get(type(module))
    if found is not None:
        operator, arguments = found
        return ByHand(kernels.get(operator, implementation), arguments(module), module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, implementation))
    if not list(module.children()) and type(module) not in AS_THEY_ARE:
        layers = ", ".join(layer.__name__ for layer in (*LAYERS, *AS_THEY_ARE))
        raise InputError(
            f"trainable: {type(module).__name__} has no operator by hand; layers that do: {layers}"
        )
    return module
