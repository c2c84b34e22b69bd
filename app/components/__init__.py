"""Streamlit components: the volume viewer and the scene it draws."""
