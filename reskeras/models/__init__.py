"""Built Keras models: making, growing, folding, moving weights into, running and exporting them.

The first room that imports Keras. Imports `reskeras.nets` and `reskeras.spec`; `training` and the command line import it.
"""
