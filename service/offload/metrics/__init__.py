"""Measurements: shared memory without locks, histograms, rates, and the snapshot behind `/stats`.

Every word of the memory has one writer, so no process waits for another, and a killed process leaves nothing locked.
"""
