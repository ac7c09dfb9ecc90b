"""How fast does a network train here under each strategy, and does it still learn the same?"""
