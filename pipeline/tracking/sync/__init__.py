"""Copies results from disk to MLflow, during training and on demand.

connection.Connection   the store, and whether it works
attempts.AttemptFolder  reads the folder of an attempt at a point
points.PointSync        sends one attempt at a point to its MLflow run
complete.py             sends a complete point, each of its parts on its own
placement.py            where MLflow shows the run of a point
placing.py              places the runs of the points of a sweep there
repeats.RepeatedPoints  keeps the runs of points with several seeds, below which their seeds are
sweep.Sync              sends all attempts of a command, with a PointSync each, and the run of the sweep
thread.SyncThread       calls a Sync repeatedly in a thread
process.SyncProcess     has the same methods as SyncThread; service.py runs the SyncThread in a separate process
"""
