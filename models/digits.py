"""scikit-learn's handwritten digits as a CNN for CIFAR-10 wants them; needs no network connection.

1,797 images that ship with scikit-learn, of 8 x 8 pixels with 17 levels of grey: from the UCI
repository's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak), its test part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError

SEED = 0
TEST_SHARE = 0.2
LEVELS = 16
"""The brightest grey."""


def load_digits(
    size: int = 32,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Images float32 [1437, 3, size, size], their labels int64 [1437], and 360 of each to test.

    Every digit's share is the same in both parts; which image is where never changes. Grey stands
    on all three channels, with mean 0 and standard deviation 1 over the training images.
    """
    # Here, because it takes a second.
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    labels = digits.target.astype(np.int64)
    training, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SEED
    )
    grey = enlarged(digits.images / LEVELS, size)
    grey = (grey - grey[training].mean()) / grey[training].std()
    images = np.repeat(grey.astype(np.float32)[:, None], 3, axis=1)
    return images[training], labels[training], images[test], labels[test]


def enlarged(images: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """[..., n, n] -> [..., size, size], bilinear, as `interpolate(align_corners=False)` of torch.

    Raises InputError for a size below n: that would need a filter against aliasing.
    """
    if size == images.shape[-1]:
        return images
    weights = _bilinear(images.shape[-1], size).astype(images.dtype)
    return weights @ images @ weights.T


def _bilinear(old: int, new: int) -> NDArray[np.float64]:
    """[new, old]: what each old pixel gives to each new one along one side."""
    if new < old:
        raise InputError(f"the images have {old} px a side, and {new} are asked for; ask for more")
    # A pixel's value is that of its centre; beyond the outermost centres nothing changes.
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))
