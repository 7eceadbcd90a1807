"""Training logs of any program, taken as they are: text, tables, JSON, TensorBoard's files; gaps are normal.

``read`` opens a log, ``choose`` finds the columns, ``stretches`` the runs in it, ``curves`` makes curves of both, and
``stairs`` says which drops come with something else. What was done to the rows of a file is said in notes.
"""

from unplateau.logs.curves import Curve, Wanted, read_curve, read_curves
from unplateau.logs.read import read_log

__all__ = ["Curve", "Wanted", "read_curve", "read_curves", "read_log"]
