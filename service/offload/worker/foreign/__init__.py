"""Workers that another library starts: a pool, an executor, a cluster."""
