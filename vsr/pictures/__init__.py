"""Picture files and numbered sequences of them, with what comes along in them."""
