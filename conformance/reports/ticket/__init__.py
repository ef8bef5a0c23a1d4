"""`rti.txt`, the text for a ticket: what an approver reads of a run.

`layout` knows columns and the limit of lines; each other module writes some sections of it.
"""
