"""What is measured: shared memory without locks, histograms, rates, and the snapshot behind `/stats`.

Every word of the memory has one writer, so nobody waits for anybody, and a killed process leaves nothing locked.
Nothing here knows tasks, engines or HTTP: workers write their own rows, the service writes the rest and reads it all.
"""
