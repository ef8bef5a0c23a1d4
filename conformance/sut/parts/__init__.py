"""What kinds of targets are composed of: processes and their containment, a Linux guest, back ends, mounts."""
