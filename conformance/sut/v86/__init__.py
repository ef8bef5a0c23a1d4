"""Targets with the emulator v86."""
