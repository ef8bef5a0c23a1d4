"""Kind `hypervisor`: a virtual machine that commands start, on this host or another; the commands stand in the TOML."""
