"""Where trials run: a single trial, the executors that run several, devices and machines.

Knows nothing of oracles and journals. It imports `reskeras.training` and `tuning.space`; the search
imports it.
"""
