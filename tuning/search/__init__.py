"""The search: connects an oracle, an executor and the journal, and informs listeners.

Start at `tuning.search.tune`. This room imports every other room except `tuning.tracking`; the
command line imports it.
"""
