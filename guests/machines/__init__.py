"""What runs a guest: the base of all machines, and a package for each program that runs one."""
