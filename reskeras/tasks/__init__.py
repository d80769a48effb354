"""Tasks: what a network is trained for, one page each.

A task says how targets are made, the losses, metrics and their direction, and what a prediction is. Nothing else asks which
task it is. Imports `reskeras.spec`; `data`, `training` and `tuning` import it.
"""
