"""`vsr verify`: proof for any pair of files, knowing nothing of the job."""
