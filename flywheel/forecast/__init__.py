"""Forecast: what a recipe would sample and train, and roughly what memory and time that takes. Nothing is loaded.

Counts follow from the recipe: `most` is what it can come to at most, `expected` rests on `Assumptions`, which stand
beside it. Memory and time are arithmetic on a model's shape and a device's data sheet; real runs differ by a factor of
two or three.
"""

from flywheel.forecast.amounts import Amount, Assumptions, Problems
from flywheel.forecast.cost import memory, seconds
from flywheel.forecast.rounds import Forecast, Round, forecast
from flywheel.forecast.stages import Stage

__all__ = ["Amount", "Assumptions", "Forecast", "Problems", "Round", "Stage", "forecast", "memory", "seconds"]
