"""An exercise: a further kind of target, QEMU again under another name. Nothing outside this folder knows of it."""
