"""Where trials run: a single trial, the executors that run several, devices and machines.

Knows nothing of oracles and journals.

Imports: reskeras.data, reskeras.evaluation, reskeras.models, reskeras.spec, reskeras.training,
tuning.space.
Imported by: reskeras.cli, tuning.search.
"""
