//! Faults.
use super::*;
#[test]
fn look() {
    for text in std::fs::read_to_string("/tmp/probe_documents.txt").unwrap().split("=====\n") {
        println!("-----\n{text}");
        match assemble(text) {
            Ok(a) => println!(">> OK {}", told(&a.warnings)),
            Err(f) => println!(">>{}", told(&f)),
        }
    }
}
