"""Built Keras models: build, grow, fold, transfer weights, predict and export.

The lowest room that imports Keras. It imports `reskeras.nets` and `reskeras.spec`; `training` and
the command line import it.
"""
