"""Pictures of networks; plain data until matplotlib draws them, without a framework.

Start at `reskeras.drawing.plot`. What draws other pictures uses its `palette` and `save`.

Imports: reskeras.nets, reskeras.spec.
Imported by: reskeras.cli, tuning.report, tuning.tracking.
"""
