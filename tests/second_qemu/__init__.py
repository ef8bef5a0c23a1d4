"""An exercise: another kind of target, QEMU again under another name. Nothing outside this folder refers to it."""
