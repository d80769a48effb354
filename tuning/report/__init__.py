"""What people read about a search: leaderboard.csv, factors.svg, learning curves, report.html.

Start at `tuning.report.leaderboard` and `tuning.report.page`. Needs no framework.

Imports: reskeras.drawing, reskeras.tasks, tuning.insight, tuning.record, tuning.space.
Imported by: reskeras.cli, tuning.search, tuning.tracking.
"""
