"""What people read about a search: leaderboard.csv, factors.svg, learning curves, report.html.

No framework. Imports `tuning.insight`, `tuning.record` and `reskeras.drawing`; the search and
`tuning.tracking` import it.
"""
