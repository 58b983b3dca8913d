//! The binary: hands over to `cli` and refuses to do anything itself.

fn main() -> std::process::ExitCode {
    channel_orchestrator::cli::main()
}
