"""Soak runs: workloads on a share for hours, injected faults, monitors, and judges over the record."""
