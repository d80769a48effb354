"""Training: from a built model and data to a trained model and its scores.

`reskeras.training.train` is the door. Imports `models`, `data`, `tasks` and `spec`; `tuning.running` and the command line
import it.
"""
