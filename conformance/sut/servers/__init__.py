"""9P servers and devices for raw frames. Nothing of a server is imported: it is judged from outside."""
