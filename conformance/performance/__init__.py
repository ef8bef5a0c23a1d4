"""How fast a share is, as ratios: to the guest's own file system, to another device or server, to an earlier run."""
