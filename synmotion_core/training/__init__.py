"""Training: frozen encodings cached, subject priors drawn, one loop for every method, checkpoints that resume
exactly.
"""
