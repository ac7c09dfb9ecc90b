"""How a network is trained, as it was asked for; needs neither torch nor data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models import InputError
from models.choice import parse_count

OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings:
    """What every strategy is to train with; the names are torch's."""

    epochs: int = 1
    batch_size: int = 32
    """Images of one step, over all workers together."""
    lr: float = 0.01
    momentum: float = 0.9
    """Of "sgd" alone; "adam" has its own two averages, at torch's default rates."""
    optimizer: str = "sgd"
    """"sgd" or "adam"."""


DEFAULT = Settings()


def parse_settings(
    epochs: str | None = None,
    batch_size: str | None = None,
    lr: str | None = None,
    momentum: str | None = None,
    optimizer: str | None = None,
) -> Settings:
    """The command line's words -> Settings; None takes the default.

    Raises InputError, naming option and value, for what cannot be trained with.
    """
    name = DEFAULT.optimizer if optimizer is None else optimizer.strip()
    if name not in OPTIMIZERS:
        raise InputError(f"--optimizer must be {' or '.join(OPTIMIZERS)}; got {optimizer!r}")
    if momentum is not None and name != "sgd":
        raise InputError(
            f"--momentum {momentum}: {name} takes none; leave it out, or train with --optimizer sgd"
        )
    return Settings(
        epochs=DEFAULT.epochs if epochs is None else parse_count("--epochs", epochs),
        batch_size=(
            DEFAULT.batch_size if batch_size is None else parse_count("--batch-size", batch_size)
        ),
        lr=DEFAULT.lr if lr is None else _parse_lr(lr),
        momentum=DEFAULT.momentum if momentum is None else _parse_momentum(momentum),
        optimizer=name,
    )


def _parse_lr(text: str) -> float:
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--lr must be a number above 0, such as 0.01 or 1e-3; got {text!r}")
    return value


def _parse_momentum(text: str) -> float:
    value = _number(text)
    if not 0 <= value < 1:
        raise InputError(f"--momentum must be a number from 0 to below 1; got {text!r}")
    return value


def _number(text: str) -> float:
    """NaN, which no bound lets through, for what is no plain number."""
    if (
        not text.isascii() or "_" in text
    ):  # Python's float would take 1_0, and other scripts' digits
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan
