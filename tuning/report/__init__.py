"""What a person reads of a search: the leaderboard as a file, pictures of factors and curves, report.html.

No framework. Imports `tuning.insight`, `tuning.record` and `reskeras.drawing`; the search and `tuning.tracking` import it.
"""
