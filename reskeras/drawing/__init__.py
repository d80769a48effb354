"""Pictures of networks; plain data until matplotlib draws them, without a framework.

Start at `reskeras.drawing.plot`. Imports `reskeras.nets` and `reskeras.spec`; the command line, the
report and MLflow's pages import its colors and `save`.
"""
