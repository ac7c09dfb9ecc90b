"""Networks and their input: LeNet-5, torchvision's classification networks, photographs.

Importing the package loads nothing heavy: torch and torchvision come with the submodules.
"""

from models.choice import Choice
from models.errors import InputError

__all__ = ["Choice", "InputError"]
