//! Hot reload on a real file system with the real watcher: the cases of policy-engine.md part 2 that Linux can
//! show, each test named after its case.
//!
//! What would hurt the machine (mounts, exhausted limits, a stopped process) is shown on a daemon of its own, in
//! namespaces of its own: `apart`.

mod apart;
mod events;
mod fixture;
mod isolation;
mod operate;
mod readers;
mod restart;
mod saves;
mod swaps;
mod templates;
