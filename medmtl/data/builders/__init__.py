"""Public data sets, each in the layout its authors give it, as manifests.

One module per data set; `table` names them all. A builder reads a copy on this machine, says in
words what it cannot use, and never downloads anything.
"""
