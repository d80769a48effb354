"""What a search taught: which factor mattered, whether the space was large enough; trials in, values out.

No framework. Imports `tuning.record` and `tuning.space`; `tuning.report`, the search and the command line import it.
"""
