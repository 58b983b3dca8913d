//! Tokens, links and robots, by table and at random.
