"""What people look at: figures, tables and pages made from results."""
