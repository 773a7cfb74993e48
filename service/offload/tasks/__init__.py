"""Tasks: their definitions, signatures, arguments, results and faults.

Nothing here knows HTTP or processes. Users import `definition.decorators`, `context` and `response`, which are light;
modules that need pydantic are imported only where tasks are loaded. `response` and `served` keep their places: their
names are in messages and in what users pickle.
"""
