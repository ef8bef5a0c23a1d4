"""A matrix of runs on the machines of a dask cluster: plan, shards and merge are those of `assay9 plan` and `merge`."""
