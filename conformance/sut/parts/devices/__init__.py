"""Devices that are made by options: their exports, security models, second machines."""
