"""Both ends of the viewer: the server that `medmtl view` starts, and the script of a session."""

from __future__ import annotations

import os

from streamlit import runtime

from app.settings import Settings

_SETTINGS = Settings.from_json(os.environ["MEDMTL_VIEW"])

if runtime.exists():  # Streamlit runs this file for every session
    from app.navigation import open_page

    open_page(_SETTINGS)
else:
    from app.serve import serve

    serve(_SETTINGS)
