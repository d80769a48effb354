"""Data sets that need no download, one module each.

Imported by `reskeras.data` alone, when one of them is asked for by name.
"""
