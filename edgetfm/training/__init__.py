"""Training small models here: a configuration in, a checkpoint out."""

from edgetfm.training.config import TrainConfig, load_config
from edgetfm.training.loop import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "load_config", "train"]
