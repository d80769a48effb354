"""Architectures, written once: families and blocks call a protocol of layers and know no framework.

Keras (`reskeras.models`) and a recorder (`reskeras.nets.graph`) implement the protocol. Costs,
growth and drawings read the recorded graph. Imports `reskeras.spec`; `drawing`, `models` and the
search's oracles import this room.
"""
