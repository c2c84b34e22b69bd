"""The Streamlit viewer over result folders: `medmtl view`.

Nothing here imports torch or monai at module level: a result folder opens where they are missing.
Imports are absolute (`app.serving...`), because Streamlit runs its pages as scripts. In a wheel
this package lies in `medmtl/_viewer`, which `medmtl view` puts on the path of its server.
"""
