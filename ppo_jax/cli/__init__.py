"""What a person types, and what they see: the commands train, play and sweep.

Here belongs a flag, a sentence on the screen, and the choice of a task by name. This
room alone may import everything; nothing imports it.
"""
