"""What a user chose to measure, before anything of it is loaded; needs neither torch nor files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError

DEFAULT_MODEL = "resnet18"
DEFAULT_NUM_INFERENCES = 16
DIGITS = 9
"""Of a count: far more than any machine can do, and few enough for 32 bits."""


@dataclass(frozen=True)
class Choice:
    """A network, its weights, and its input."""

    model: str = DEFAULT_MODEL
    """"lenet", a classification network of torchvision, or "package.module:factory"."""
    weights: str | None = None
    """None for seeded random weights, "DEFAULT" for torchvision's pretrained, or a file."""
    images: Path | None = None
    """A folder of photographs; None for the one that ships with matplotlib."""
    image_size: int | None = None
    """Pixels on each side; None for what the network's weights ask."""
    num_inferences: int = DEFAULT_NUM_INFERENCES
    """Images that one call infers."""

    @property
    def brings_its_own(self) -> bool:
        """Whether the network comes from a factory outside of this project."""
        return ":" in self.model


@dataclass(frozen=True)
class DataChoice:
    """What to train on; raises InputError for --download without a folder."""

    data_dir: Path | None = None
    """Holds CIFAR-10 or class folders; None for scikit-learn's handwritten digits."""
    subset: int | None = None
    """Training images; None for all."""
    download: bool = False
    """Fetch CIFAR-10 into `data_dir`, unless it is there."""

    def __post_init__(self) -> None:
        if self.download and self.data_dir is None:
            raise InputError(
                "--download: say with --data-dir DIR where to put CIFAR-10 (180 MB); without "
                "either option the digits of scikit-learn are trained on"
            )


def parse_data(data_dir: str | None, subset: str | None, *, download: bool) -> DataChoice:
    """The command line's words -> a DataChoice; raises InputError, naming option and value."""
    return DataChoice(
        data_dir=None if data_dir is None else parse_folder("--data-dir", data_dir),
        subset=None if subset is None else parse_count("--subset", subset),
        download=download,
    )


def parse_choice(
    model: str,
    weights: str | None,
    images: str | None,
    image_size: str | None,
    num_inferences: str,
) -> Choice:
    """The command line's words -> a Choice; raises InputError for numbers that are none."""
    return Choice(
        model=model,
        weights=weights,
        images=None if images is None else Path(images),
        image_size=None if image_size is None else parse_count("--image-size", image_size),
        num_inferences=parse_count("--num-inferences", num_inferences),
    )


def parse_folder(option: str, text: str) -> Path:
    """A folder's path, which need not exist; an empty one, Python's ".", is not meant."""
    if not text.strip():
        raise InputError(f"{option} must name a folder, got {text!r}; is a variable empty?")
    return Path(text)


def parse_count(option: str, text: str) -> int:
    """A whole number from 1 up; raises InputError, naming the option, for anything else."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and text.strip("0")):
        raise InputError(f"{option} must be a whole number of at least 1, got {text!r}")
    if len(text) > DIGITS:
        raise InputError(f"{option} must have at most {DIGITS} digits, got {len(text)} of them")
    return int(text)
