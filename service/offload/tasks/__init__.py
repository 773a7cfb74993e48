"""Tasks: their definitions, signatures, arguments, results and faults.

Nothing here knows HTTP or processes. Users import `definition`, `context` and `response`, which are light; modules that
need pydantic are imported only where tasks are loaded.
"""
