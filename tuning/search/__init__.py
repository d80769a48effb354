"""The search: joins an oracle, an executor and the journal, and tells listeners what happens.

`tuning.search.tune` is the door. Imports every other room but `tuning.tracking`; the command line imports it.
"""
