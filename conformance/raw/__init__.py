"""The wire and ring layers: a raw 9P client, virtqueues, and the fixtures of their cases."""
