"""What both backends share: initial weights, schedules, and what a training records."""
