"""Fit random weights to the images, so that comparing their logits can find a wrong result.

Freshly drawn networks are poor references. On photographs, torchvision's own initialisation gives
the same top-1 for every image (resnet18), logits of 1e-9 (mobilenet_v2) or plain zeros (vit_b_16):
results in the wrong order, or of another image, would pass. Scaling each layer by its own output
(Mishkin and Matas, "All you need is a good init", ICLR 2016; Krähenbühl et al., "Data-dependent
initializations of convolutional neural networks", ICLR 2016) mends it in one forward pass:

    convolution, linear   weights and bias divided by the output's root mean square
    batch norm            running mean and variance those of this batch
    last layer            each class's logits centred over the images, their mean spread set to 1
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 0.05
"""Share of a layer's variance added to each channel's, so that none that hardly varies is blown up
to rounding noise."""


@torch.no_grad()
def calibrate(network: nn.Module, images: Tensor) -> None:
    """Change the network's weights and statistics in place; images is [n, channels, size, size].

    The last layer is the last convolution or linear layer that the network registers.
    """
    scaled = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    normed = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(_scale) for layer in scaled[:-1]]
    hooks += [layer.register_forward_hook(_centre) for layer in scaled[-1:]]
    hooks += [layer.register_forward_pre_hook(_take_statistics) for layer in normed]
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()


def _scale(layer: nn.Conv2d | nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
    size = output.square().mean().sqrt().clamp_min(torch.finfo(output.dtype).tiny)
    layer.weight.div_(size)
    if layer.bias is not None:
        layer.bias.div_(size)
    return output / size


def _centre(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    classes = 1 if isinstance(layer, nn.Conv2d) else output.ndim - 1
    others = [d for d in range(output.ndim) if d != classes]
    count = output.numel() // output.shape[classes]
    # One image alone has no spread over images: take that of its logits.
    spread = output.std(others).mean() if count > 1 else output.std()
    layer.weight.div_(spread)
    if layer.bias is None:
        return output / spread
    mean = output.mean(others) if count > 1 else output.mean()
    layer.bias.sub_(mean).div_(spread)
    return layer.forward(*inputs)


def _take_statistics(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
    images = inputs[0]
    layer.running_mean.copy_(images.mean([0, 2, 3]))
    layer.running_var.copy_(images.var([0, 2, 3], correction=0) + FLOOR * images.var(correction=0))
