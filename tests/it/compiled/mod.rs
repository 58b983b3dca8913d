//! Compiled policies against the interpreter, which is the oracle: the same verdicts, shares, reasons, places and
//! failures for every message, under shipped scripts and generated ones. `fuzz/` looks for more of them without end.

mod differ;
mod facts;
mod grammar;
mod oracle;
