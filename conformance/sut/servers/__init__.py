"""9P servers and devices that raw frames reach. Nothing of a server is imported: it is judged from outside."""
