"""The deciding core: who is taken, who runs next, who is stopped.

Everything here is synchronous and pure: events and the time come in as arguments, commands go out as return values.
No module of this package imports asyncio, multiprocessing, threading, socket, time, random or os, so that the whole
of it can be simulated.  `dispatch` feeds it and carries its commands out.
"""
