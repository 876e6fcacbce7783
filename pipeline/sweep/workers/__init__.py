"""Points that train in other processes and on other machines."""
