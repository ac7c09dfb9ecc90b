"""A torch network as torch.fx's graph of layers and functions, ready for the operators by hand.

Batch norms and relus are folded into the convolutions before them. What the graph would not show,
and so come out otherwise without a word, is refused: hooks, and layers that change in place what a
flattened view shows too.
"""

from __future__ import annotations

import itertools
import operator
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.errors import InputError, first_line
from models.layers import LAYERS, ConvolutionRelu, is_in_place, is_same, is_view
from models.operators import DTYPES


def trace(module: nn.Module) -> fx.GraphModule:
    """The graph of a network in eval mode; raises InputError for what cannot be had of it."""
    _check(module)
    if type(module) in LAYERS:  # alone, it would be traced into
        module = nn.Sequential(module)
    tracer = _Tracer()
    try:
        graph = tracer.trace(module)
    # somebody else's forward, run on stand-ins for tensors, may raise anything
    except Exception as error:
        raise InputError(
            f"on_kernels: {type(module).__name__} cannot be traced ({first_line(error)}); its "
            f"forward has to be free of branches on the values of tensors"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    _refuse_hooks(module, traced)
    _refuse_changed_views(graph)
    _fold(traced)
    return traced


class _Proxy(fx.Proxy):
    def __iadd__(self, other: Any) -> Any:
        """`y += x` as what it is; torch.fx by itself makes a new value of it."""
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _check(module: nn.Module) -> None:
    if any(layer.training for layer in module.modules()):
        raise InputError(
            "on_kernels: the network is in training mode; call its eval() first: batch norm and "
            "dropout work otherwise there"
        )
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        wrong = tensor.is_floating_point() and tensor.dtype not in DTYPES
        if wrong or tensor.is_complex() or tensor.device.type != "cpu":
            raise InputError(
                f"on_kernels: {name} of {type(module).__name__} is {tensor.dtype} on "
                f"{tensor.device}; the operators take float32 and float64 on the CPU: call the "
                f"network's float() or cpu() first"
            )


def _refuse_hooks(module: nn.Module, traced: fx.GraphModule) -> None:
    """Those of the network and of layers; what lies between is traced with its hooks."""
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    layers = {str(name): traced.get_submodule(str(name)) for name in calls}
    for name, layer in {"the network": module, **layers}.items():
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise InputError(
                f"on_kernels: {name} ({type(layer).__name__}) has hooks, which the operators by "
                f"hand would leave out; remove them first"
            )


def _refuse_changed_views(graph: fx.Graph) -> None:
    """A change in place shows in other shapes of the same memory, or not, as the memory lies."""
    number = {node: i for i, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, fx.Node] = {}
    value: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        in_place, view = is_in_place(node), is_view(node)
        source = node.all_input_nodes[0] if in_place or view or is_same(node) else node
        memory[node] = memory.get(source, node)
        value[node] = node if view else value.get(source, node)
        others = [a for a in memory if memory[a] is memory[node] and value[a] is not value[node]]
        if in_place and any(number[user] > number[node] for a in others for user in a.users):
            raise InputError(
                f"on_kernels: {node.name} changes in place what {others[0].name} shows in another "
                f"shape, and that is used afterwards; let it make a new value"
            )


def _fold(traced: fx.GraphModule) -> None:
    """Let each convolution also do the batch norm after it, and then the relu."""
    for wanted, fold in ((nn.BatchNorm2d, _with_batch_norm), (nn.ReLU, ConvolutionRelu)):
        layers = dict(traced.named_modules())
        calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
        for node in list(traced.graph.nodes):
            before = node.args[0] if node.args else None
            if not (isinstance(before, fx.Node) and node.op == before.op == "call_module"):
                continue
            after, convolution = layers[node.target], layers[before.target]
            if not (isinstance(after, wanted) and isinstance(convolution, nn.Conv2d)):
                continue
            shared = len(before.users) > 1 or calls.count(before.target) > 1
            folded = None if shared else fold(convolution, after)
            if folded is not None:
                layers[before.target] = folded
                traced.set_submodule(before.target, folded)
                node.replace_all_uses_with(before)
                traced.graph.erase_node(node)


def _with_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d | None:
    """One that does both; None for a norm by the batch's own statistics."""
    return fuse_conv_bn_eval(convolution, norm) if norm.track_running_stats else None
