"""What people look at: figures made from results."""
