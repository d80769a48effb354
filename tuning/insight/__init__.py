"""What a search found out: which factors mattered, whether the space was large enough. No pictures.

Start at `tuning.insight.summary`. Needs no framework.

Imports: reskeras.tasks, tuning.record, tuning.space.
Imported by: reskeras.cli, tuning.report, tuning.search.
"""
