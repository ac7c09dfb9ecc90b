"""A local file of weights into a network; the file is not trusted: tensors alone are read."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import InputError, first_line, unreadable

SHOWN = 3
"""Keys that a message names before it says how many more there are."""


def load_state(network: nn.Module, name: str, file: str) -> None:
    """Fill the network with a state dict; every key and shape has to fit.

    Raises InputError, naming the file and the first keys that do not fit, and leaves the network
    as it was.
    """
    state = read_state(file)
    wanted = network.state_dict()
    for keys, wrong in (
        ([k for k in wanted if k not in state], "lacks"),
        ([k for k in state if k not in wanted], "has, and the network has not,"),
    ):
        if keys:
            raise InputError(
                f"--weights {file}: does not fit {name}: it {wrong} {_shown(keys)}; "
                f"give the state dict of this network, or choose its --model"
            )
    bad = [k for k in wanted if wanted[k].shape != state[k].shape]
    if bad:
        shapes = [f"{k} is {tuple(state[k].shape)} for {tuple(wanted[k].shape)}" for k in bad]
        raise InputError(f"--weights {file}: does not fit {name}: {_shown(shapes)}")
    odd = [k for k in wanted if not _is_plain(state[k])]
    if odd:
        raise InputError(
            f"--weights {file}: does not fit {name}: wanted dense tensors of real numbers, and "
            f"those are none: {_shown(odd)}; give the state dict of this network"
        )
    network.load_state_dict(state)


def read_state(file: str) -> Mapping[str, Tensor]:
    """The state dict that `torch.save(network.state_dict(), file)` wrote.

    Loaded with `weights_only=True`: a pickle that would run code is refused. Raises InputError.
    """
    path = Path(file)
    if why := unreadable(path):
        raise InputError(f"--weights {file}: {why}; allowed: DEFAULT, or a file with a state dict")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on foreign formats, refused below
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"--weights {file}: refused, since it is no plain state dict and loading it might run "
            f"code ({_reason(error)}); save it with torch.save(network.state_dict(), file)"
        ) from None
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise InputError(
            f"--weights {file}: truncated, damaged or not a file of torch.save "
            f"({first_line(error)}); save or fetch it again"
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        held = f" with {_shown(list(map(str, state)))}" if isinstance(state, Mapping) else ""
        raise InputError(
            f"--weights {file}: wanted a state dict (names and tensors), got "
            f"{type(state).__name__}{held}; save it with torch.save(network.state_dict(), file)"
        )
    return state


def _is_plain(tensor: Tensor) -> bool:
    """Neither sparse, quantized nor complex, and with values, which torch's "meta" has none of."""
    strided = tensor.layout == torch.strided and not tensor.is_quantized
    return strided and not tensor.is_complex() and tensor.device.type == "cpu"


def _reason(error: pickle.UnpicklingError) -> str:
    """The line in which torch names what it refused."""
    lines = [line.strip() for line in str(error).splitlines()]
    named = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (named or lines)[0].removeprefix("WeightsUnpickler error: ")[:160].rstrip(".")


def _shown(items: list[str]) -> str:
    rest = len(items) - SHOWN
    return ", ".join(items[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
