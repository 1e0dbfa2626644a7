"""What a plugin author needs to test a plugin: the contract of a task, and small data with known truth."""
