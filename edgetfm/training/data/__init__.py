"""What is learned from: pictures, texts, tables and sounds, split so that nothing is in two."""

from edgetfm.training.data.images import (
    SPLITS,
    Dataset,
    Images,
    Labels,
    Split,
    load_dataset,
    pixel_values,
    shifted,
    split,
)

__all__ = [
    "SPLITS",
    "Dataset",
    "Images",
    "Labels",
    "Split",
    "load_dataset",
    "pixel_values",
    "shifted",
    "split",
]
