"""Layer application: programs that nobody here wrote, on the share and on the guest's own file system."""
