"""Plateaus of a learning curve and the steps at which runs escape them: numbers in, numbers out, no torch.

``detect`` finds plateaus in any log; ``progress`` holds the definitions that need the two exact predictors. Nothing is
imported here, so that a run directory is read without scipy.
"""
