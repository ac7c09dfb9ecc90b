"""The CIFAR CNN, which the training benchmarks train: 1,070,794 weights, 38 MFLOP a trained image.

conv1  3x3, 3 -> 32     relu, max pool 2     [n, 3, 32, 32] -> [n, 32, 16, 16]
conv2  3x3, 32 -> 64    relu, max pool 2                    -> [n, 64, 8, 8]
fc1    4096 -> 256      relu                                -> [n, 256]
fc2    256 -> 10                                            -> [n, 10]
"""

from collections import OrderedDict

from torch import nn

CLASSES = 10


def cifar_cnn(classes: int = CLASSES) -> nn.Sequential:
    """Images [n, 3, 32, 32] -> logits [n, classes]; weights as torch draws them."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * 8 * 8, 256),
            relu3=nn.ReLU(),
            fc2=nn.Linear(256, classes),
        )
    )
