"""Kind `hypervisor`: a virtual machine that commands start, on this host or another; the TOML gives the commands."""
