"""What every inference benchmark works on, loaded once: the network, its images, the reference.

The reference is the dullest correct code: one image after another, one thread, float32, eager.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.inference.forward import in_batches, torch_threads
from models import Choice, InputError
from models.calibration import calibrate
from models.errors import first_line
from models.images import input_of, load_images
from models.networks import build, check_name


@dataclass(frozen=True)
class Workload:
    """A network in eval mode, images [n, channels, size, size], logits [n, classes]; float32."""

    model: nn.Module
    images: Tensor
    logits: Tensor


def title(choice: Choice) -> str:
    """The question's name, for tables and plots: "inference resnet18, 16 images 224px".

    Raises InputError for an unknown network.
    """
    check_name(choice.model)
    size = input_of(choice).size
    weights = "" if choice.weights is None else f" with weights {choice.weights}"
    return f"inference {choice.model}{weights}, {choice.num_inferences} images {size}px"


def prepare(choice: Choice) -> Workload:
    """Load everything and infer once; raises InputError for whatever is wrong with the choice."""
    check_name(choice.model)
    images = load_images(choice)
    if all(channel.min() == channel.max() for channel in images.unbind(1)):
        raise InputError(
            f"--images {choice.images}: every image is of one and the same colour, so no result "
            f"could be told from another; give photographs"
        )
    model = build(choice, images.shape[-1])
    try:
        if choice.weights is None and not choice.brings_its_own:
            calibrate(model, images)
        with torch_threads(1):
            logits = in_batches(model, images, batch_size=1)
    except Exception as error:  # whatever a network raises for images it cannot take
        raise InputError(
            f"--model {choice.model} cannot take {choice.num_inferences} images of shape "
            f"{tuple(images.shape[1:])} ({first_line(error)}); leave --image-size out for the "
            f"network's own, or choose another network"
        ) from error
    check_logits(choice.model, images, logits)
    return Workload(model, images, logits)


def check_logits(name: str, images: Tensor, logits: Tensor) -> None:
    """Refuse a reference that could not tell a right result from a wrong one.

    Raises InputError for logits that are none, not finite, or the same for different images.
    """
    if logits.ndim != 2 or len(logits) != len(images) or not logits.dtype.is_floating_point:
        raise InputError(
            f"--model {name}: wanted logits [images, classes], got {logits.dtype} of shape "
            f"{tuple(logits.shape)}; let the network return its logits alone"
        )
    if not logits.isfinite().all():
        raise InputError(
            f"--model {name}: its logits are not finite, so no result could be shown to be right; "
            f"check its weights"
        )
    distinct = len(torch.unique(logits, dim=0))
    if distinct < len(logits) and distinct < len(torch.unique(images, dim=0)):
        raise InputError(
            f"--model {name}: it gives the same logits for different images, so a result in the "
            f"wrong order would pass; check its weights"
        )
