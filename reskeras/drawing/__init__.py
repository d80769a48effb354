"""Pictures of architectures, as plain data until matplotlib draws them; no framework.

`reskeras.drawing.plot` is the door. Imports `reskeras.nets` and `reskeras.spec`; the command line, the report and MLflow's
pages import its colors and `save`.
"""
