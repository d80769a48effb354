"""What happened in a search: the journal, who is told of it, which trial is better, which models are kept.

No framework. Imports `tuning.space`; everything that tells of a search imports it.
"""
