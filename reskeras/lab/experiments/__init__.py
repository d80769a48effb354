"""The experiments of the lab: one module for each.

Imports: x.
Imported by: reskeras.lab.
"""
