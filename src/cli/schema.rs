//! `schema`: what editors complete policy files and templates with, and what scripts and templates may say.

use super::outcome::{Answer, Failure};
use crate::policy::{fields, schema, template};

pub fn run(reference: bool, templates: bool) -> Result<Answer, Failure> {
    if reference {
        println!("{}", fields::reference_markdown().trim_end());
        println!("{VERDICTS}");
        println!("\n{}", template::reference_markdown().trim_end());
    } else if templates {
        println!("{:#}", template::schema::json_schema());
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
