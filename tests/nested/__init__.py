"""Another machine as the host: the outer guest of `guests.machines.qemu.outer`, reached by SSH alone."""
