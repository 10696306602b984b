"""
The tests of asynqueue, for C{python -m twisted.trial test}; those in C{pytest_twisted} are for pytest.
"""
