"""Training: from a built model and data to a trained model and its scores.

Start at `reskeras.training.train`. A `Training` runs its epochs through a `CompiledTrainer` or a
`FittedTrainer`; `Feed` supplies the batches and `Targets` what they are compared with.

Imports: reskeras.data, reskeras.models, reskeras.spec, reskeras.tasks.
Imported by: reskeras.cli, reskeras.lab, reskeras.lab.doctor, reskeras.lab.experiments,
tuning.running, tuning.search.
"""
