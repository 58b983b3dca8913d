//! `audit` and `backup`: the database looked at, and copied, beside a daemon that may be running.
//!
//! Neither changes anything in it. A copy is not called good before it was opened and audited.

use std::path::Path;

use serde_json::json;

use super::outcome::{Answer, Failure};
use crate::{
    app,
    config::Config,
    domain::time::{Clock, SystemClock},
    store::{Finding, StoreError},
};

pub async fn run(config: &Config, json: bool) -> Result<Answer, Failure> {
    let findings = audited(&config.database).await?;
    let breaches: u64 = findings.iter().map(|finding| finding.breaches).sum();
    if json {
        println!("{:#}", json!({ "clean": breaches == 0, "findings": findings }));
    } else {
        for finding in &findings {
            println!("{}", line(finding));
        }
        println!();
        match breaches {
            0 => println!("clean: {} questions, no breach", findings.len()),
            1 => println!("1 breach: keep a copy (`{} backup FILE`) and report it", super::invocation()),
            n => {
                println!("{n} breaches: keep a copy (`{} backup FILE`) and report them", super::invocation())
            }
        }
    }
    Ok(if breaches == 0 { Answer::Yes } else { Answer::No })
}

pub async fn backup(config: &Config, file: &Path, json: bool) -> Result<Answer, Failure> {
    let store = app::open_database_to_read(&config.database).await.map_err(failure)?;
    let made = store.backup(file).await;
    store.close().await;
    made.map_err(failure)?;
    let findings = audited(&format!("sqlite:{}", file.display())).await?;
    let breaches: u64 = findings.iter().map(|finding| finding.breaches).sum();
    let bytes = std::fs::metadata(file).map(|found| found.len()).unwrap_or_default();
    if json {
        println!("{:#}", json!({ "file": file, "bytes": bytes, "breaches": breaches }));
    } else {
        println!("{} holds everything up to now: {bytes} bytes, opened and audited", file.display());
        for finding in findings.iter().filter(|finding| finding.breaches > 0) {
            println!("{}", line(finding));
        }
        println!("`{} serve --database sqlite:{}` would go on from it", super::invocation(), file.display());
    }
    Ok(if breaches == 0 { Answer::Yes } else { Answer::No })
}

async fn audited(database: &str) -> Result<Vec<Finding>, Failure> {
    let store = app::open_database_to_read(database).await.map_err(failure)?;
    let findings = store.audit(SystemClock.now()).await;
    store.close().await;
    findings.map_err(failure)
}

fn line(finding: &Finding) -> String {
    let Finding { invariant, says, breaches, examples } = finding;
    match breaches {
        0 => format!("ok  {invariant:<4} {says}"),
        n => format!("NO  {invariant:<4} {says}: {n} times, such as {}", examples.join(", ")),
    }
}

fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) => Failure::TryAgain(error.to_string()),
        other => Failure::Unusable(other.to_string()),
    }
}
