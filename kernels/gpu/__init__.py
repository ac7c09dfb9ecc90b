"""The operators' GPU sources and what runs them: a CUDA device, Metal, or the host grid."""
