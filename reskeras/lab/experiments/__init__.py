"""The experiments of the lab: one module for each.

Imports: reskeras.data, reskeras.drawing, reskeras.lab, reskeras.models, reskeras.nets,
reskeras.spec, reskeras.training.
Imported by: reskeras.lab.
"""
