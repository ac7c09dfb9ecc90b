"""Which operator of `kernels` computes a layer of torch; everything else is rearrangement.

A line a layer, function or method. What is not listed is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from models.errors import InputError
from models.operators import ArrayOperators, DeviceOperators, Step

Operators = ArrayOperators | DeviceOperators


def step_of(node: fx.Node, traced: fx.GraphModule, operators: Operators) -> Step:
    """What computes a node; raises InputError, naming the layer, where nothing does."""
    if node.op == "get_attr":
        value = operators.parameter(operator.attrgetter(str(node.target))(traced))
        return lambda: value
    if node.op == "call_module":
        layer = traced.get_submodule(str(node.target))
        make_layer = LAYERS.get(type(layer))
        if make_layer is not None:
            return make_layer(layer, operators)
        refused = f"layer {node.target} ({type(layer).__name__})"
    else:
        make = FUNCTIONS.get(node.target)
        if make is not None:
            return make(operators)
        kind = "method" if node.op == "call_method" else "function"
        refused = f"{kind} {_name(node.target)} ({node.name})"
    layers = ", ".join(_name(layer) for layer in LAYERS if layer is not ConvolutionRelu)
    functions = ", ".join(dict.fromkeys(map(_name, FUNCTIONS)))
    raise InputError(
        f"on_kernels: the {refused} has no operator by hand; "
        f"layers that do: {layers}; functions: {functions}"
    )


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", target))


def is_in_place(node: fx.Node) -> bool:
    """Whether a node also changes its first argument, which later steps may take again."""
    layer = _layer_of(node)
    if layer is not None:
        return bool(getattr(layer, "inplace", False))
    by_position = node.target is F.relu and node.args[1:] == (True,)
    by_name = bool(node.kwargs.get("inplace", False))
    return by_position or by_name or node.target is operator.iadd


def is_view(node: fx.Node) -> bool:
    """Whether a node's result is its argument in another shape."""
    layer = _layer_of(node)
    return isinstance(layer, nn.Flatten) if layer else node.target in (torch.flatten, "flatten")


def is_same(node: fx.Node) -> bool:
    """Whether a node's result is its argument."""
    return isinstance(_layer_of(node), (nn.Dropout, nn.Identity))


def _layer_of(node: fx.Node) -> nn.Module | None:
    """The layer that a node calls, or None."""
    root = node.graph.owning_module
    return root.get_submodule(str(node.target)) if root and node.op == "call_module" else None


def _optional(operators: Operators, tensor: Tensor | None) -> Any:
    return None if tensor is None else operators.parameter(tensor)


def _conv2d(layer: nn.Conv2d, operators: Operators, *, relu: bool = False) -> Step:
    if layer.padding_mode != "zeros":
        raise InputError(
            f"on_kernels: a Conv2d with padding_mode={layer.padding_mode!r} has no operator by "
            f"hand; allowed: 'zeros'"
        )
    forward = operators.forward("conv2d")
    weight, bias = operators.parameter(layer.weight), _optional(operators, layer.bias)
    rest = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return lambda x: forward(x, weight, bias, *rest, relu=relu)


def _linear(layer: nn.Linear, operators: Operators) -> Step:
    forward = operators.forward("linear")
    weight, bias = operators.parameter(layer.weight), _optional(operators, layer.bias)
    return lambda x: forward(x, weight, bias)


def _batch_norm(layer: nn.BatchNorm2d, operators: Operators) -> Step:
    forward = operators.forward("batch_norm")
    tensors = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    mean, variance, weight, bias = (_optional(operators, each) for each in tensors)
    training = mean is None
    return lambda x: forward(x, mean, variance, weight, bias, training, 0.0, layer.eps)


def _max_pool2d(layer: nn.MaxPool2d, operators: Operators) -> Step:
    forward = operators.forward("max_pool2d")
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    kwargs = {name: getattr(layer, name) for name in names}
    return lambda x: forward(x, **kwargs)


def _avg_pool2d(layer: nn.AvgPool2d, operators: Operators) -> Step:
    forward = operators.forward("avg_pool2d")
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    kwargs = {name: getattr(layer, name) for name in (*names, "divisor_override")}
    return lambda x: forward(x, **kwargs)


def _adaptive_avg_pool2d(layer: nn.AdaptiveAvgPool2d, operators: Operators) -> Step:
    forward = operators.forward("adaptive_avg_pool2d")
    return lambda x: forward(x, layer.output_size)


def _relu(operators: Operators) -> Step:
    forward = operators.forward("relu")
    # the arguments by torch's names; `is_in_place` sees to the second
    return lambda input, inplace=False: forward(input)  # noqa: A006, ARG005


def _add(operators: Operators) -> Step:
    forward = operators.forward("add")

    def add(input: Any, other: Any, *, alpha: float = 1) -> Any:  # noqa: A002
        """One of the two may be a number."""
        like = input if hasattr(input, "dtype") else other
        return forward(operators.like(input, like), operators.like(other, like), alpha=alpha)

    return add


class ConvolutionRelu(nn.Sequential):
    """A convolution and the relu that alone takes its result: one pass over memory for both."""


LAYERS: dict[type[nn.Module], Callable[[Any, Operators], Step]] = {
    nn.Conv2d: _conv2d,
    ConvolutionRelu: lambda layer, operators: _conv2d(layer[0], operators, relu=True),
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool2d,
    nn.AvgPool2d: _avg_pool2d,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    nn.ReLU: lambda _, operators: _relu(operators),
    nn.Softmax: lambda layer, operators: _over_dim(operators.forward("softmax"), layer.dim),
    nn.LogSoftmax: lambda layer, operators: _over_dim(operators.forward("log_softmax"), layer.dim),
    nn.Tanh: lambda _, operators: operators.tanh,
    nn.Flatten: lambda layer, operators: (
        lambda x: operators.flatten(x, layer.start_dim, layer.end_dim)
    ),
    nn.Dropout: lambda *_: lambda x: x,
    nn.Identity: lambda *_: lambda x: x,
}
"""Layer -> what makes its step, from the layer and the operators."""

FUNCTIONS: dict[Any, Callable[[Operators], Step]] = {
    F.relu: _relu,
    torch.relu: _relu,
    "relu": _relu,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    "add": _add,
    F.max_pool2d: lambda operators: operators.forward("max_pool2d"),
    F.avg_pool2d: lambda operators: operators.forward("avg_pool2d"),
    F.adaptive_avg_pool2d: lambda operators: operators.forward("adaptive_avg_pool2d"),
    torch.flatten: lambda operators: operators.flatten,
    "flatten": lambda operators: operators.flatten,
    torch.cat: lambda operators: operators.concatenate,
}
"""Function, or method by name -> what makes its step, from the operators."""


def _over_dim(forward: Step, dim: int | None) -> Step:
    if dim is None:
        raise InputError("on_kernels: a softmax layer needs its dim; torch deprecated guessing it")
    return lambda x: forward(x, dim)
