//! Hot reload on a real file system with the real watcher: the cases of policy-engine.md part 2 that Linux can
//! show, each test named after its case.
//!
//! Not here, because a test cannot make them without hurting the machine: `subPath` and single-file bind mounts
//! (cases 4, 5), exhausted inotify limits (23). What they come down to, a change that raises no event, is here.

mod fixture;
mod isolation;
mod operate;
mod restart;
mod saves;
mod swaps;
mod templates;
