"""monoscope: find the features inside a language model, and use them."""
