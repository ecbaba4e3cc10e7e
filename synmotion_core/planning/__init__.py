"""What a run needs of the machine and of the time, before anything is loaded, and what can be changed where it is too
much: from specs, from what was counted without weights, and from what earlier runs took here.
"""
