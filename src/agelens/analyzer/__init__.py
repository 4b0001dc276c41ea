"""Pictures -> reports: the whole corridor behind one class."""

from typing import TYPE_CHECKING

from agelens.analyzer.corridor import DETAIL, Analyzer
from agelens.analyzer.line import AHEAD
from agelens.analyzer.prepared import Prepared
from agelens.analyzer.settings import DEFAULTS, Settings, check_settings
from agelens.cores import count_cores

if TYPE_CHECKING:
    from agelens.analyzer.corridor import Input as Input

__all__ = ["AHEAD", "DEFAULTS", "DETAIL", "Analyzer", "Prepared", "Settings", "check_settings", "count_cores"]
