"""The record of a search: its journal, its listeners, the ranking of trials, the kept models.

Needs no framework. It imports `tuning.space`; everything that reports on a search imports it.
"""
