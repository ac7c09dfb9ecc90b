"""How fast are the operators by hand, beside PyTorch's own and beside what the machine gives?"""
