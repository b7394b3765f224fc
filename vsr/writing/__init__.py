"""Writing files: containers and encoders, what each can say, every refusal beforehand, and the check afterwards."""
