"""Smaller and faster graphs from float32 ones: calibration, recipes, passes."""

from edgetfm.quantize.apply import quantize_graph
from edgetfm.quantize.arrays import read_arrays
from edgetfm.quantize.calibration import Calibration, read_calibration
from edgetfm.quantize.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Calibration", "Recipe", "quantize_graph", "read_arrays", "read_calibration"]
