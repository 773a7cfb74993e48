"""Engines whose workers belong to a cluster: Dask and Ray."""
