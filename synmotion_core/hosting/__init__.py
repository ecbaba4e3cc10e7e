"""This studio on other people's machines: as a Space, or for one training as a Job of Hugging Face."""
