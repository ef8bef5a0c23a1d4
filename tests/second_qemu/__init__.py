"""An exercise: another kind of target, QEMU under another name. Nothing outside this folder refers to it."""
