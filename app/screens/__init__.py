"""One file per page: layout and widgets; the work is done in `app.services`.

Not called `pages`: Streamlit runs the files of a folder of that name by itself.
"""
