"""The engines whose workers belong to a cluster, Dask's or Ray's: what they share."""
