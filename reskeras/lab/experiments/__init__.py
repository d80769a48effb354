"""The experiments of the lab: one module for each.

Imports: reskeras.drawing, reskeras.lab, reskeras.nets, reskeras.spec.
Imported by: reskeras.lab.
"""
