"""The deciding core: which jobs are accepted, which runs next, which is stopped. README.md has the reading order.

Everything here is synchronous and pure: events and the time come in as arguments, commands go out as return values.
Nothing here imports asyncio, multiprocessing, threading, socket, time, random or os, so all of it can be simulated.
"""
