"""The default engine: supervised lanes, each a process of its own with a private channel to the event loop."""
