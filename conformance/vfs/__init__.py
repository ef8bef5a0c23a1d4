"""A mounted share, seen from several vantages and compared, for the layers vfs and property."""
