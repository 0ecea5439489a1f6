"""Operations from outside: workers, privileges, and everything at once (`soak`). The fault rows about operations are in
`tests/faults/rows/operations.py`."""
