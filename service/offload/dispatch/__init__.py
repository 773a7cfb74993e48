"""asyncio around the core: callers, the timer, commands out, events in. No policy."""
