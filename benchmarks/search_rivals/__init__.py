"""The rivals of `benchmarks/search.py`, and its tables and plot."""
