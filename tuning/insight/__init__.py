"""What a search found out: which factors mattered, whether the space was large enough. No pictures.

No framework. Imports `tuning.record` and `tuning.space`; `tuning.report`, the search and the
command line import it.
"""
