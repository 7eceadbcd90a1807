"""Linear probes: what can be read off a hidden state, and whether that is more than chance.

What enters: a model and a task. What leaves: held-out accuracies per layer and factor.
"""

from unplateau.probe.linear import Accuracies, Examples, probe_accuracies
from unplateau.probe.measure import probe_components, score_layers
from unplateau.scores import LayerScores

__all__ = ["Accuracies", "Examples", "LayerScores", "probe_accuracies", "probe_components", "score_layers"]
