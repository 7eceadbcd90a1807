"""What can be read off hidden states, and whether that is more than chance: linear probes, and the three things."""

from unplateau.probe.linear import Accuracies, Examples, probe_accuracies
from unplateau.probe.measure import measure, probe_components
from unplateau.probe.three_things import probe_three_things

__all__ = ["Accuracies", "Examples", "measure", "probe_accuracies", "probe_components", "probe_three_things"]
