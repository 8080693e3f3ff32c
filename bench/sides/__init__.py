"""What is measured: each module prints one round's figures as JSON."""
