"""
What the engine needs beside Twisted's Deferreds: the caller's context, and deadlines on a monotonic clock.
"""
