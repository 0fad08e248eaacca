"""Training late-interaction models whose vectors are few: data, objectives, modules and the run.

Everything here is imported when `colreduce train` or a trained model needs it, never by
``import colreduce``.
"""
