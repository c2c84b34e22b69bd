"""What the pages show and change, in plain typed Python without Streamlit."""
