"""Architectures, written once: families and blocks call a protocol of layers and know no framework.

Keras (`reskeras.models`), arithmetic (`reskeras.nets.cost`) and pictures (`reskeras.drawing`) read them.
Imports `reskeras.spec`; `drawing`, `models` and the search's oracles import it.
"""
