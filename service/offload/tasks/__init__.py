"""What users write, and what it means: tasks, their signatures, arguments, results and faults.

Nothing here knows HTTP or processes.  `definition`, `context` and `response` are what users import, and are light;
everything that needs pydantic is imported only where tasks are really loaded.
"""
