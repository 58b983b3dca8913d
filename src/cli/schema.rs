//! `schema`: what editors complete policy files with, and what scripts may read.

use super::outcome::{Answer, Failure};
use crate::policy::{fields, schema};

pub fn run(reference: bool) -> Result<Answer, Failure> {
    if reference {
        println!("{}", fields::reference_markdown().trim_end());
        println!("{VERDICTS}");
    } else {
        println!("{:#}", schema::json_schema());
    }
    Ok(Answer::Yes)
}

const VERDICTS: &str = "
| a script ends in | which means |
|---|---|
| `award(share, reason)` | `share` (0 to 1) of the criterion's weight is added |
| `penalize(share, reason)` | `share` (0 to 1) of the criterion's weight is taken away |
| `veto(reason)` | the channel is out, whatever its points |
| `neutral()` | nothing |";
