"""Where trials run: one trial, the executors that run several, and the devices and machines under them.

Knows nothing of oracles or journals. Imports `reskeras.training` and `tuning.space`; the search imports it.
"""
