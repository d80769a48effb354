"""The record of a search: its journal, its listeners, the ranking of trials, the kept models.

Start at `tuning.record.journal`. Needs no framework.

Imports: reskeras.spec, tuning.space.
Imported by: reskeras.cli, tuning.insight, tuning.report, tuning.search, tuning.tracking.
"""
