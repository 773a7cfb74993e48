"""The asyncio shell around the deciding core: callers' futures, one timer, commands out, events in.  No policy."""
