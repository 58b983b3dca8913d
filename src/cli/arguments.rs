//! The command line: what can be asked, with two examples for each command.
//!
//! Shapes only. What a command does is in the file of its name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Flags;

/// Decides, for every message a business sends, whether it goes by SMS, email, WhatsApp or Telegram; says why;
/// and sends it.
#[derive(Debug, Parser)]
#[command(
    name = "orchestrator",
    version,
    args_conflicts_with_subcommands = false,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
        orchestrator serve\n  \
        orchestrator --explain examples/requests/quiet_hours.json --at 2025-11-14T23:00:00+01:00\n\n\
        Exit codes: 0 ok, 1 the answer is no, 2 usage, 69 no daemon answers, 75 try again, 78 bad settings."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub explain: ExplainArguments,
    #[command(flatten)]
    pub global: Global,
}

/// Taken by every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The settings file [default: ./orchestrator.toml, else the machine's].
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps what it keeps.
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// The policies folder.
    #[arg(long, value_name = "DIR", global = true)]
    pub policies: Option<PathBuf>,
    /// The daemon's Unix socket.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://...`.
    #[arg(long, value_name = "URL", global = true)]
    pub database: Option<String>,
}

impl Global {
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            policies: self.policies.clone(),
            socket: self.socket.clone(),
            listen: None,
            public_listen: None,
            public_url: None,
            database: self.database.clone(),
            log: None,
        }
    }
}

/// Why a message goes where it goes. Offline, unless `--message` names one that was sent.
#[derive(Clone, Debug, Default, Args)]
pub struct ExplainArguments {
    /// Explain where this request would go and why, offline, without sending anything; `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
    /// With --explain: a message that the daemon has, instead of a file.
    #[arg(long, value_name = "ID", requires = "explain")]
    pub message: Option<String>,
    /// With --explain: decide as if it were this instant, such as 2025-11-14T23:00:00+01:00.
    #[arg(long, value_name = "RFC3339", requires = "explain")]
    pub at: Option<String>,
    /// With --explain: decide under this variant of the tenant's policy.
    #[arg(long, value_name = "NAME", requires = "explain")]
    pub variant: Option<String>,
    /// With --explain: list the line of the script behind each reason.
    #[arg(long, requires = "explain")]
    pub sources: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    #[command(after_help = "Examples:\n  orchestrator serve\n  \
        orchestrator serve --policies ./policies --listen 127.0.0.1:8080")]
    Serve {
        /// Take TCP connections as well, with keys: an address and a port.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
        /// Take callbacks, opens, clicks and unsubscriptions from the internet: an address and a port.
        #[arg(long, value_name = "ADDRESS")]
        public_listen: Option<String>,
        /// How that is reached from outside, such as https://msg.example.com.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
        /// What to log, such as `info` or `channel_orchestrator::delivery=debug`.
        #[arg(long, value_name = "FILTER")]
        log: Option<String>,
    },
    /// Send a message through the running daemon.
    #[command(after_help = "Examples:\n  orchestrator send examples/requests/urgent.json\n  \
        orchestrator send request.json --key order-1234 --wait 10")]
    Send(SendArguments),
    /// Send one content to many people through the running daemon.
    #[command(
        after_help = "Examples:\n  orchestrator broadcast examples/requests/broadcast.json --dry-run\n  \
        orchestrator broadcast newsletter.json --key newsletter-2025-11"
    )]
    Broadcast(BroadcastArguments),
    /// What every channel came to: sent, delivered, opened, cost, saved. Works on a stopped daemon's database too.
    #[command(after_help = "Examples:\n  orchestrator stats tenant_123\n  \
        orchestrator stats tenant_123 --from 2025-11-01 --to 2025-11-30 --by template --json")]
    Stats(StatsArguments),
    /// Check a policies folder: every fault with its line and how to mend it.
    #[command(
        after_help = "Examples:\n  orchestrator check\n  orchestrator check ./policies --origins tenant_123"
    )]
    Check {
        /// [default: the policies that `serve` would use]
        dir: Option<PathBuf>,
        /// Where each value of this tenant's policy comes from, instead.
        #[arg(long, value_name = "TENANT")]
        origins: Option<String>,
    },
    /// Run the policy tests of a policies folder.
    #[command(
        after_help = "Examples:\n  orchestrator test\n  orchestrator test ./policies --tenant tenant_123"
    )]
    Test {
        /// [default: the policies that `serve` would use]
        dir: Option<PathBuf>,
        /// Only this tenant's tests.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Print the JSON Schema of policy files or of templates, for editors.
    #[command(after_help = "Examples:\n  orchestrator schema > policy.schema.json\n  \
        orchestrator schema --templates > template.schema.json")]
    Schema {
        /// Print what scripts may read and say, and what templates may do with a value, instead.
        #[arg(long)]
        reference: bool,
        /// Print the schema of templates/*.toml.
        #[arg(long, conflicts_with = "reference")]
        templates: bool,
    },
    /// Which policies the running daemon has in force, and why the files are not.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  orchestrator policies\n  orchestrator policies tenant_123"
    )]
    Policies {
        /// Only this tenant's, with its criteria and weights.
        tenant: Option<String>,
        #[command(subcommand)]
        action: Option<PoliciesAction>,
    },
    /// API keys for TCP; they are kept in the database, whether the daemon runs or not.
    #[command(
        after_help = "Examples:\n  orchestrator keys add tenant_123 --scope send,read --expires 90d\n  \
        orchestrator keys list"
    )]
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Check what is kept against what must never be found there; nothing is changed, and the daemon may run.
    #[command(after_help = "Examples:\n  orchestrator audit\n  orchestrator audit --json")]
    Audit,
    /// Copy the embedded database to FILE while the daemon runs, and check the copy.
    #[command(after_help = "Examples:\n  orchestrator backup /var/backups/orchestrator-2025-11-14.db\n  \
        orchestrator serve --database sqlite:/var/backups/orchestrator-2025-11-14.db")]
    Backup {
        /// A file that is not there yet.
        file: PathBuf,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  \
        orchestrator completions bash > ~/.local/share/bash-completion/completions/orchestrator\n  \
        orchestrator completions fish > ~/.config/fish/completions/orchestrator.fish")]
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Debug, Args)]
pub struct SendArguments {
    /// The request, as JSON; `-` is standard input.
    pub request: String,
    /// Show where it would go and why, and send nothing.
    #[arg(long)]
    pub explain: bool,
    /// Idempotency-Key: the same key sends once, however often it is repeated.
    #[arg(long, value_name = "KEY", conflicts_with = "explain")]
    pub key: Option<String>,
    /// Seconds to wait for an outcome [default: 5].
    #[arg(long, value_name = "SECONDS", conflicts_with = "explain", value_parser = clap::value_parser!(u32).range(0..=30))]
    pub wait: Option<u32>,
    /// With --explain: list the line of the script behind each reason.
    #[arg(long, requires = "explain")]
    pub sources: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BroadcastArguments {
    /// The request, as JSON (`contexts` and `content`); `-` is standard input.
    pub file: String,
    /// Say where each row would go and at what cost, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency-Key: the same key sends once, however often it is repeated.
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
    pub key: Option<String>,
    /// Seconds to wait for outcomes [default: 5].
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(0..=30))]
    pub wait: Option<u32>,
}

#[derive(Clone, Debug, Args)]
pub struct StatsArguments {
    pub tenant: String,
    /// The first day, in the tenant's zone [default: 30 days up to TO].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub from: Option<String>,
    /// The last day [default: today].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: Option<String>,
    /// One channel only.
    #[arg(long)]
    pub channel: Option<String>,
    /// One messageType only; `none` for messages without.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// One template only.
    #[arg(long)]
    pub template: Option<String>,
    /// One campaign or broadcast only.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// One variant only.
    #[arg(long)]
    pub variant: Option<String>,
    /// Apart by one or two of day, type, template, campaign, variant.
    #[arg(long, value_name = "DIMENSIONS")]
    pub by: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum PoliciesAction {
    /// One tenant's, with its criteria and weights: for a tenant that is named like a command, such as `reload`.
    #[command(
        after_help = "Examples:\n  orchestrator policies show tenant_123\n  orchestrator policies show reload"
    )]
    Show { tenant: String },
    /// Read the folder again, now, and say what came of it.
    #[command(
        after_help = "Examples:\n  orchestrator policies reload\n  orchestrator policies reload --json"
    )]
    Reload,
    /// The versions that a tenant's policy had, newest first.
    #[command(after_help = "Examples:\n  orchestrator policies history tenant_123\n  \
        orchestrator policies history tenant_123 --json")]
    History { tenant: String },
    /// How the files of two versions differ.
    #[command(after_help = "Examples:\n  orchestrator policies diff tenant_123\n  \
        orchestrator policies diff tenant_123 e46176885dfa 612a9cb7f41b")]
    Diff {
        tenant: String,
        /// A version, or its first digits [default: the newest beside TO].
        from: Option<String>,
        /// [default: the one in force]
        to: Option<String>,
    },
    /// Put an earlier version in force, until the tenant's files change.
    #[command(after_help = "Examples:\n  orchestrator policies rollback tenant_123 e46176885dfa\n  \
        orchestrator policies rollback tenant_123 e46176885dfa --json")]
    Rollback {
        tenant: String,
        /// As `history` shows it; its first digits will do.
        version: String,
    },
    /// Drop a tenant whose file is gone: its policy and its history, not its messages.
    #[command(after_help = "Examples:\n  orchestrator policies forget tenant_123\n  \
        orchestrator policies forget tenant_123 --json")]
    Forget { tenant: String },
}

#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Make a key; it is shown once.
    #[command(after_help = "Examples:\n  orchestrator keys add tenant_123\n  \
        orchestrator keys add tenant_123 --scope read --label dashboard --expires 90d")]
    Add {
        tenant: String,
        /// What it may do.
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "send,read", value_parser = ["send", "read", "admin"])]
        scope: Vec<String>,
        /// What it is for, in your own words.
        #[arg(long, default_value = "")]
        label: String,
        /// How long it works: days or hours, such as 90d or 12h [default: until it is revoked].
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List the keys, never the keys themselves.
    #[command(
        after_help = "Examples:\n  orchestrator keys list\n  orchestrator keys list --tenant tenant_123 --json"
    )]
    List {
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Take a key out of force.
    #[command(after_help = "Examples:\n  orchestrator keys revoke ok_1a2b3c4d5\n  \
        orchestrator keys revoke ok_1a2b3c4d5 --json")]
    Revoke {
        /// The first 12 characters, as `keys list` shows them.
        prefix: String,
    },
}
