"""The parts of targets: processes and their containment, a Linux guest, back ends, mounts."""
