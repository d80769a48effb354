"""Evaluation: how well a trained network does on images, how sure that is, and against what.

Start at `reskeras.evaluation.evaluate`. `collect` runs networks and baselines over a split and
keeps a few numbers of each image; all scores and their intervals follow from these.

Imports: reskeras.data, reskeras.drawing, reskeras.models, reskeras.tasks.
Imported by: reskeras.cli, tuning.running.
"""
