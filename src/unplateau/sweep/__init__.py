"""Many runs: a grid of specs, and the processes that work through it.

What enters: specs. What leaves: run directories.
"""
