"""The target `local`: this host's own file system in the place of a share."""
