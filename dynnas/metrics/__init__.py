"""What a network is worth: accuracy, alone and under a budget for a batch."""
