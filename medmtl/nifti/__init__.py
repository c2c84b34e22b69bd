"""NIfTI in: one case per file, or per pair of files called `<case>_ed` and `<case>_es`.

Import from the modules: `names` is light, `listing` brings nibabel.
"""
