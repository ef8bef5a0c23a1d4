"""What the wire and ring layers work with: a raw 9P client, virtqueues, what a case gets."""
