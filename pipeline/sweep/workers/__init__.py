"""Train points in other processes and on other machines."""
