"""Built Keras models: build, grow, fold, transfer weights, predict and export.

The lowest room that imports Keras. It imports `reskeras.nets`, `reskeras.spec` and
`reskeras.tasks`; `training`, `tuning` and the command line import it.
"""
