"""Linear probes: what can be read off a hidden state, and whether that is more than chance."""

from unplateau.probe.linear import Accuracies, Examples, probe_accuracies
from unplateau.probe.measure import measure, probe_components

__all__ = ["Accuracies", "Examples", "measure", "probe_accuracies", "probe_components"]
