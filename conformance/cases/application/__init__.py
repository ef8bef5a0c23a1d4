"""Layer application: existing programs, run on the share and on the guest's own file system."""
