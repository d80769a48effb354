"""What `benchmarks/search.py` compares: searches with reskeras and with plain Keras, and what they leave as tables and a plot."""
