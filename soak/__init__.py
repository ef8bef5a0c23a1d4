"""Soak runs: workloads on a share for hours, faults injected, monitors, and judges over what was recorded."""
