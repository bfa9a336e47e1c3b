"""What repeats, still pure: a rollout, a run, an evaluation, a population.

Here belongs what calls policies and environments over and over, as functions that can
be jitted and mapped. Right of this room files, clocks and processes begin.
"""
