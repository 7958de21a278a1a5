"""Using a trained model: load and save it, write text, evaluate, mark surprising lines, inspect, export."""
