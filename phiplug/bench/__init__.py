"""What `phiplug bench` and `phiplug compare` do: workload, measurement, fairness, hardware, record, tables and page.

`types` holds the values; `worker` measures one backend in a process of its own; `conduct` starts the workers and takes
the rounds in turn; `fairness` says which rows may be compared; `record` keeps a run in a file; `compare`, `tables` and
`page` show one or several.
"""
