"""What the vfs and property layers work with: a mounted share, seen from several vantages and compared."""
