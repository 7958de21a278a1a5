"""What is done with a trained model: load, write, evaluate, mark lines, inspect, export."""
