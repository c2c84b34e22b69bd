"""HTTP routes beside Streamlit's own: volumes as files, under tokens bound to a session."""
