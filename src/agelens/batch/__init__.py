"""Millions of pictures: partitions of Parquet, worked off by a pool of processes on one machine or many.

`ArrowPredictor` is the map function by itself, Arrow in and Arrow out, for Ray Data, Spark's `mapInArrow` and whatever
else speaks Arrow. It needs pyarrow only; Ray is loaded by `agelens.batch.engine`.
"""

from agelens.advice import how_to_install
from agelens.errors import MissingPackageError

try:
    import pyarrow as _pyarrow
except ImportError as error:
    raise MissingPackageError(f"agelens.batch needs pyarrow and Ray: {how_to_install('batch')}") from error

from agelens.batch.arrow import ArrowPredictor
from agelens.batch.columns import PictureColumns, find_columns
from agelens.batch.job import BatchJob, PlannedRun, plan_run
from agelens.batch.partition import Outcome

del _pyarrow

__all__ = ["ArrowPredictor", "BatchJob", "Outcome", "PictureColumns", "PlannedRun", "find_columns", "plan_run"]
