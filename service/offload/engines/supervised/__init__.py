"""The default engine: supervised lanes, each with a worker process and a private channel to it."""
