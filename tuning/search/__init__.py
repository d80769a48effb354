"""The search: connects an oracle, an executor and the journal, and informs listeners.

Start at `tuning.search.tune`. It informs `tuning.tracking` as a listener, without importing it.

Imports: reskeras.data, reskeras.models, reskeras.spec, reskeras.tasks, reskeras.training,
tuning.insight, tuning.oracles, tuning.record, tuning.report, tuning.running, tuning.space.
Imported by: reskeras.cli.
"""
