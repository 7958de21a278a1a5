"""Files ▶ documents ▶ tokens ▶ batches."""
