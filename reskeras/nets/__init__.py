"""Architectures, written once: families and blocks call a protocol of layers and know no framework.

Keras (`reskeras.models`) and a recorder (`reskeras.nets.graph`) implement the protocol. Costs,
growth and drawings read the recorded graph.

Imports: reskeras.spec, reskeras.spec.presets.
Imported by: reskeras, reskeras.drawing, reskeras.lab, reskeras.lab.doctor,
reskeras.lab.experiments, reskeras.models, tuning.oracles, tuning.space, tuning.tracking.
"""
