"""LeNet-5: the smallest network of the suite, for quick tests and for overheads to show.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition"
(Proc. IEEE, 1998), with full connections from S2 to C3 and a linear output layer.
"""

from torch import Tensor, nn

CLASSES = 10


class LeNet5(nn.Module):
    """Grey images [n, 1, 32, 32] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.Tanh(),
            nn.Linear(120, 84),
            nn.Tanh(),
            nn.Linear(84, CLASSES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.classifier(self.features(images))
