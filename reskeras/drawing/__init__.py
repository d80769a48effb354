"""Pictures of networks; plain data until matplotlib draws them, without a framework.

Start at `reskeras.drawing.plot`. What draws other pictures uses its `palette` and `save`.

Imports: reskeras.nets, reskeras.spec, reskeras.tasks.
Imported by: reskeras.cli, reskeras.evaluation, reskeras.lab.experiments, tuning.report,
tuning.tracking.
"""
