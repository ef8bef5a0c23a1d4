"""The target `local`: this host's own file system instead of a share."""
