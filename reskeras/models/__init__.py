"""Built Keras models: build, grow, fold, transfer weights, predict and export.

The lowest room that imports Keras when it is itself imported.

Imports: reskeras.nets, reskeras.spec, reskeras.spec.presets, reskeras.tasks.
Imported by: reskeras.cli, reskeras.data, reskeras.evaluation, reskeras.lab, reskeras.lab.doctor,
reskeras.lab.experiments, reskeras.training, tuning.running, tuning.search, tuning.tracking.
"""
