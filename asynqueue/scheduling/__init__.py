"""
Scheduling without input and output: values in, decisions out. Nothing here knows Twisted or a clock.
"""
