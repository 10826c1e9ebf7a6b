"""The training job that the demo kills and resumes."""
