"""One file per page: layout and widgets; the work is done in `app.services`."""
